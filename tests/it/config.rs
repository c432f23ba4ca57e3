//! Settings from the outside: broken ones are files in `tests/config/bad`, each with all that is to be printed beside it; the
//! example file and the documentation hold every key and every default.
//!
//! `FEEDGATE_BLESS=1 cargo test --test it config` writes the expected output anew; read the difference before keeping it.

use std::fs;
use std::path::{Path, PathBuf};

use feedgate::config::{
    CheckMode, CheckModes, Config, ConfigErrors, DomainConfig, RecipientList, Recipients, Source, Spam, keys,
};
use feedgate::mail::Domain;

const BAD: &str = "tests/config/bad";
const EXAMPLE: &str = "deploy/feedgate.toml";

#[test]
fn broken_settings_are_explained() {
    let mut wrong = Vec::new();
    let cases = cases();
    assert!(cases.len() >= 25, "only {} cases in {BAD}", cases.len());
    for Case { settings, expected, printed } in cases {
        if std::env::var_os("FEEDGATE_BLESS").is_some() {
            fs::write(&expected, &printed).unwrap();
        }
        let wanted = fs::read_to_string(&expected).unwrap_or_default();
        if wanted != printed {
            wrong.push(format!("{}\n--- wanted\n{wanted}--- printed\n{printed}", settings.display()));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn eight_mistakes_of_different_kinds_are_reported_at_once() {
    let text = fs::read_to_string(format!("{BAD}/eight-at-once.toml")).unwrap();
    let errors = Config::parse(&text, Path::new("eight-at-once.toml")).unwrap_err();
    assert_eq!(errors.count(), 8, "{errors}");
}

struct Case {
    settings: PathBuf,
    expected: PathBuf,
    printed: String,
}

/// A file alone, or a directory with `feedgate.toml`, `domains/` and `expected.txt`.
fn cases() -> Vec<Case> {
    let mut entries: Vec<PathBuf> = fs::read_dir(BAD).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    let case = |path: PathBuf| {
        let (settings, expected, result) = if path.is_dir() {
            let settings = path.join("feedgate.toml");
            let result = Config::load(&settings);
            (settings, path.join("expected.txt"), result)
        } else if path.extension().is_some_and(|extension| extension == "toml") {
            let text = fs::read_to_string(&path).unwrap();
            let name = Path::new(path.file_name().unwrap());
            (path.clone(), path.with_extension("txt"), Config::parse(&text, name))
        } else {
            return None;
        };
        let printed = match result {
            Ok(_) => panic!("{} is taken without an error", settings.display()),
            Err(errors) => errors.to_string(),
        };
        Some(Case { settings, expected, printed })
    };
    entries.into_iter().filter_map(case).collect()
}

fn defaults() -> Config {
    Config::with_defaults(Domain::parse("mx1.isp.example").unwrap(), PathBuf::from("/var/lib/feedgate"))
}

#[track_caller]
fn valid(text: &str) -> Config {
    Config::parse(text, Path::new("/etc/feedgate/feedgate.toml")).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn the_example_file_equals_the_defaults() {
    assert_eq!(valid(&fs::read_to_string(EXAMPLE).unwrap()), defaults());
    assert_eq!(valid("hostname = \"mx1.isp.example\""), defaults());
}

#[test]
fn the_example_file_uncommented_holds_every_key_and_the_defaults_of_a_domain() {
    let text = fs::read_to_string(EXAMPLE).unwrap();
    let is_example = |line: &&str| line.starts_with('#') && !line.starts_with("# ") && *line != "#";
    let examples = text.lines().filter(is_example).count();
    let uncommented: Vec<&str> =
        text.lines().map(|line| if is_example(&line) { line.trim_start_matches('#') } else { line }).collect();
    let text = uncommented.join("\n");
    let config = valid(&text);
    assert!(examples > 10 && config.postmaster.is_some() && config.smtp.tls.is_some() && config.rules.is_some());

    let domain = config.domain(&Domain::parse("customer.example").unwrap()).expect("in the example");
    let hops = vec!["203.0.113.5".parse().unwrap(), "mail2.customer.example:2525".parse().unwrap()];
    let file = PathBuf::from("/etc/feedgate/feedgate.toml");
    // What has no default is shown with a value that makes sense.
    let default = DomainConfig::with_defaults(hops);
    let recipients = Recipients {
        list: RecipientList::Here(vec!["sales@customer.example".to_owned(), "*+*@customer.example".to_owned()]),
        callout_port: Some(2525),
        ..default.recipients
    };
    let shown = DomainConfig {
        file,
        outage_lifetime_max: Some(std::time::Duration::from_secs(14 * 86_400)),
        recipients,
        relay_from: vec!["203.0.113.5/32".parse().unwrap()],
        checks: CheckModes { reverse_dns: CheckMode::Score, ..default.checks },
        spam: Spam { people: domain.spam.people.clone(), lists: domain.spam.lists.clone(), ..default.spam.clone() },
        origins: domain.origins.clone(),
        ..default
    };
    assert_eq!(*domain, shown);
    let lists = &domain.spam.lists;
    assert_eq!((domain.spam.people.len(), lists.allow.len(), lists.block.len()), (1, 3, 2));
    assert!(config.alerts.command.is_some() && config.alerts.webhook.is_some() && config.admin.public_url.is_some());
    assert_eq!(config.checks.lists.len(), 1);

    for key in keys() {
        let name = key.rsplit('.').next().expect("has a name");
        let written = text.lines().any(|line| line.starts_with(&format!("{name} =")) || line.contains(&format!(" {name} =")));
        assert!(written, "{key} is not in {EXAMPLE}");
    }
}

#[test]
fn the_documentation_has_a_row_for_every_key_and_no_other() {
    let documentation = fs::read_to_string("docs/CONFIG.md").unwrap();
    let rows = documentation.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let mut documented: Vec<&str> = rows.map(|(key, _)| key).collect();
    documented.sort_unstable();
    assert_eq!(documented, keys().iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn domains_of_all_files_are_put_together() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    fs::create_dir(dir.path().join("domains")).unwrap();
    write(
        "feedgate.toml",
        "hostname = \"mx1.isp.example\"\ndata_dir = \"data\"\n[queue]\nlifetime = \"3d\"\n[clamav]\naddress = [\"unix:clamd.ctl\"]\n\
         [domains.\"one.example\"]\ndeliver_to = [\"192.0.2.1\"]\n",
    );
    write("domains/b.toml", "[domains.\"BÜCHER.example\"]\ndeliver_to = [\"192.0.2.2\"]\ngreylist = false\n");
    write("domains/.b.toml", "an editor's lock");
    write("domains/README", "not settings");
    let source = Source::new(&dir.path().join("feedgate.toml"));
    let config = source.load().unwrap_or_else(|errors| panic!("{errors}"));

    let names: Vec<&str> = config.domains.keys().map(Domain::as_str).collect();
    assert_eq!(names, ["one.example", "xn--bcher-kva.example"]);
    let domain = config.domain(&Domain::parse("bücher.example").unwrap()).unwrap();
    assert_eq!(domain.file, dir.path().join("domains/b.toml"));
    assert_eq!(domain.greylist, feedgate::config::Greylisting::Off);
    assert_eq!(domain.lifetime, config.queue.lifetime, "a domain has the lifetime of the queue unless it says otherwise");
    assert_eq!(config.data_dir, dir.path().join("data"), "relative paths start beside the file");
    assert_eq!(config.clamav.addresses[0].to_string(), format!("unix:{}", dir.path().join("clamd.ctl").display()));
    assert_eq!(source.files(), [dir.path().join("feedgate.toml"), dir.path().join("domains/b.toml")]);
}

#[test]
fn values_are_read_as_they_are_meant() {
    let config = valid(
        "hostname = \"MX1.ISP.example.\"\npostmaster = \"postmaster@isp.example\"\n\
         [smtp]\nlisten = [\"127.0.0.1:0\"]\nverdict_wait = \"0s\"\n\
         [admin]\nlisten = \"\"\n[dns]\nservers = [\"192.0.2.53\", \"[2001:db8::53]:5353\"]\n\
         [notices]\ndelay_after = \"0s\"\nper_sender = \"10 / 1h 30m\"\nlanguage = \"de\"\n\
         [limits]\nallow = [\"192.0.2.0/24\", \"2001:db8::1\"]\nconnections = 1_000\n\
         [domains.\"a.example\"]\ndeliver_to = [\"127.0.0.1:2525\"]\nrecipients = \"any\"\nunscannable = \"deliver-tagged\"\n\
         spam = { enabled = true, high = \"quarantine\", low_text = \"[Werbung möglich] \" }\n",
    );
    assert_eq!(config.hostname.as_str(), "mx1.isp.example");
    assert!(config.smtp.verdict_wait.is_zero());
    assert_eq!(config.admin.listen, None);
    let servers: Vec<String> = config.dns.servers.iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["192.0.2.53:53", "[2001:db8::53]:5353"]);
    assert_eq!(config.limits.connections, 1000);
    let per_sender = feedgate::config::Rate { count: 10, per: std::time::Duration::from_secs(5400) };
    assert_eq!((config.notices.delay_after, config.notices.per_sender), (None, per_sender));
    for (address, allowed) in
        [("192.0.2.77", true), ("::ffff:192.0.2.77", true), ("192.0.3.1", false), ("2001:db8::1", true), ("2001:db8::2", false)]
    {
        assert_eq!(config.allows(address.parse().unwrap()), allowed, "{address}");
    }
    let spam = &config.domains.values().next().unwrap().spam;
    assert!(spam.enabled);
    assert_eq!(spam.low.text, "[Werbung möglich] ");
    assert_eq!(spam.high.action, feedgate::mail::Action::Quarantine);
}

#[test]
fn a_domain_says_otherwise_than_the_platform_key_by_key() {
    let config = valid(
        "hostname = \"mx1.isp.example\"\n\
         [spam]\nenabled = true\nmed = \"quarantine\"\nlow_text = \"[?] \"\nshare = \"20%\"\nallow = [\"192.0.2.1\"]\n\
         people = [\"Jane Doe <jane@isp.example>\"]\n\
         [domains.\"a.example\"]\ndeliver_to = [\"203.0.113.5\"]\n\
         [domains.\"b.example\"]\ndeliver_to = [\"203.0.113.5\"]\n\
         spam = { enabled = false, low_text = \"[b] \", share = \"2.5 %\", people = [], block = [\"JOE@Partner.example\", \"*.TOP\"] }\n",
    );
    let spam = |name: &str| &config.domain(&Domain::parse(name).unwrap()).unwrap().spam;
    let (a, b) = (spam("a.example"), spam("b.example"));
    assert_eq!(
        *a,
        Spam { lists: Default::default(), ..config.spam.clone() },
        "all but the lists, which are asked for by themselves"
    );
    assert_eq!(a.people[0].to_string(), "Jane Doe <jane@isp.example>");
    assert_eq!((b.enabled, b.low.text.as_str(), b.med.action), (false, "[b] ", feedgate::mail::Action::Quarantine));
    assert_eq!((b.share, b.people.len(), b.lists.allow.len()), (0.025, 0, 0));
    assert_eq!(b.lists.block.iter().map(ToString::to_string).collect::<Vec<_>>(), ["JOE@partner.example", "*.top"]);
    assert_eq!(config.spam.lists.allow[0].to_string(), "192.0.2.1/32");
}

#[test]
fn ten_thousand_domains_in_one_file_are_read_and_their_mistakes_bounded() {
    let domain = |number| format!("[domains.\"customer{number}.example\"]\ndeliver_to = [\"203.0.113.5\"]\n");
    let text: String = (0..10_000).map(domain).collect();
    let text = format!("hostname = \"mx1.isp.example\"\n{text}");
    assert_eq!(valid(&text).domains.len(), 10_000);
    let errors = Config::parse(&text.replace("203.0.113.5", "mail server"), Path::new("a.toml")).unwrap_err();
    assert_eq!(errors.count(), 101);
    assert_eq!(
        errors.iter().last().map(|error| error.brief()).as_deref(),
        Some("a.toml: 9900 more errors in this file are not shown")
    );
}

#[track_caller]
fn load_error(path: &Path) -> ConfigErrors {
    Config::load(path).expect_err("must not load")
}

#[test]
fn files_that_cannot_be_read_are_errors_with_the_systems_reason() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("feedgate.toml");
    let shown = |errors: ConfigErrors| errors.to_string().replace(dir.path().to_str().unwrap(), "DIR");
    assert_eq!(
        shown(load_error(&file)),
        "error: cannot read the settings: No such file or directory (os error 2)\n  --> DIR/feedgate.toml\n   \
         = help: name the file with --config FILE\n"
    );
    assert_eq!(shown(load_error(dir.path())), "error: cannot read the settings: Is a directory (os error 21)\n  --> DIR\n");
    fs::write(&file, b"hostname = \"mx1.isp.example\"\n# \xff\n").unwrap();
    assert_eq!(shown(load_error(&file)), "error: is not valid UTF-8 (line 2)\n  --> DIR/feedgate.toml\n");
    assert_eq!(
        load_error(Path::new("/dev/zero")).to_string(),
        "error: is larger than 16MiB and cannot be a file with settings\n  --> /dev/zero\n"
    );
}

#[test]
fn any_text_is_answered_in_bounded_output_and_without_a_panic() {
    let texts = [
        "]".repeat(100_000),
        "a = 1\na = 1\n".repeat(10_000),
        "[".repeat(100_000),
        format!("x = {}", "[".repeat(100_000)),
        format!("x = \"{}", "é".repeat(100_000)),
        format!("hostname = \"{}\"", "a.".repeat(100_000)),
        format!("{} = 1", "k".repeat(100_000)),
        (0..10_000).map(|number| format!("key{number} = {number}\n")).collect(),
        "\u{feff}\u{0}\u{1b}[31m\r\r\n=\n".repeat(1_000),
    ];
    for text in texts {
        let errors = Config::parse(&text, Path::new("a.toml")).expect_err("none is valid");
        assert!(errors.count() <= 101, "{} errors", errors.count());
        let printed = errors.to_string();
        assert!(!printed.contains('\u{1b}'), "nothing that a terminal obeys");
        assert!(printed.len() < 200_000, "{} bytes for {:?}…", printed.len(), &text[..9]);
    }
}

#[test]
fn the_readmes_configuration_is_valid() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let text = readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("README shows a configuration");
    let config = Config::parse(text, Path::new("README.md")).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.domains.len(), 1);
}
