//! What the name of a host says about who registered it.

use super::{clickable, clicks, registered_label};
use crate::spam::checks::identity::longest_consonants;
use crate::spam::facts::{Facts, Link, organisation, shorteners};

pub(in crate::spam::checks) fn link_encoded_host(facts: &Facts) -> Option<String> {
    clickable(facts, Link::host_is_encoded)
}

/// A name that no one thought of: a run of consonants, or letters and digits in turn. Places where hosts get such names from a
/// machine are known otherwise.
pub(in crate::spam::checks) fn link_random_host(facts: &Facts) -> Option<String> {
    strange(facts).find(|link| is_random(registered_label(&link.host))).map(|link| link.host.clone())
}

fn is_random(label: &str) -> bool {
    let bytes = label.as_bytes();
    let changes = bytes.windows(2).filter(|two| two[0].is_ascii_digit() != two[1].is_ascii_digit()).count();
    // Names put together of abbreviations have long runs too, of common letters.
    let run = longest_consonants(label);
    let rare = bytes.iter().filter(|byte| b"jkqvwxz".contains(byte)).count();
    let unspeakable = run >= 7 || run == 6 && rare >= 2;
    !label.starts_with("xn--") && label.len() >= 7 && label.is_ascii() && (unspeakable || changes >= 4)
}

/// Endings that cost a coin for the first year, or nothing, and are mostly abused.
pub(in crate::spam::checks) fn link_cheap_ending(facts: &Facts) -> Option<String> {
    const ENDINGS: [&str; 62] = [
        "accountant",
        "autos",
        "bar",
        "beauty",
        "bid",
        "boats",
        "bond",
        "buzz",
        "cam",
        "cf",
        "cfd",
        "christmas",
        "click",
        "cricket",
        "cyou",
        "date",
        "download",
        "faith",
        "fit",
        "fun",
        "ga",
        "gdn",
        "gq",
        "hair",
        "homes",
        "icu",
        "kim",
        "lat",
        "link",
        "loan",
        "lol",
        "makeup",
        "men",
        "ml",
        "mom",
        "monster",
        "motorcycles",
        "party",
        "pics",
        "pw",
        "quest",
        "racing",
        "ren",
        "rest",
        "review",
        "sbs",
        "science",
        "skin",
        "stream",
        "su",
        "surf",
        "tattoo",
        "tk",
        "tokyo",
        "top",
        "trade",
        "vip",
        "wang",
        "win",
        "work",
        "xyz",
        "yachts",
    ];
    let sold_below =
        ["sa.com", "za.com", "ru.com", "co.com", "in.net", "us.com", "eu.com", "br.com", "uk.com", "de.com", "gb.net"];
    let cheap = |link: &&Link| {
        let ending = link.host.rsplit('.').next().unwrap_or_default();
        ENDINGS.binary_search(&ending).is_ok() || sold_below.contains(&organisation(&link.host))
    };
    strange(facts).find(cheap).map(|link| link.host.clone())
}

/// `secure-login-update.example`: words that are to calm the reader, hyphened into a name.
pub(in crate::spam::checks) fn link_calming_host(facts: &Facts) -> Option<String> {
    const WORDS: [&str; 68] = [
        "acces",
        "acceso",
        "access",
        "account",
        "accounts",
        "acesso",
        "alert",
        "auth",
        "authenticate",
        "bank",
        "banking",
        "billing",
        "client",
        "cliente",
        "clientes",
        "compte",
        "confirm",
        "confirmation",
        "conto",
        "cuenta",
        "customer",
        "delivery",
        "entrega",
        "help",
        "helpdesk",
        "id",
        "identity",
        "invoice",
        "konto",
        "kunde",
        "kunden",
        "livraison",
        "login",
        "logon",
        "mail",
        "notice",
        "online",
        "parcel",
        "password",
        "payment",
        "portal",
        "rastreamento",
        "recovery",
        "resolve",
        "restore",
        "secure",
        "security",
        "seguro",
        "service",
        "sicherheit",
        "signin",
        "suivi",
        "support",
        "sync",
        "team",
        "track",
        "tracking",
        "unlock",
        "update",
        "validacion",
        "validate",
        "validation",
        "verificacion",
        "verification",
        "verifizierung",
        "verify",
        "wallet",
        "webmail",
    ];
    let calming = |link: &&Link| {
        let label = registered_label(&link.host);
        let words = label.split('-').filter(|word| WORDS.binary_search(word).is_ok()).count();
        label.contains('-') && words >= 2
    };
    strange(facts).find(calming).map(|link| link.host.clone())
}

/// Four or more digits in what was registered.
pub(in crate::spam::checks) fn link_numbered_host(facts: &Facts) -> Option<String> {
    let numbered = |link: &&Link| registered_label(&link.host).bytes().filter(u8::is_ascii_digit).count() >= 4;
    strange(facts).find(|link| numbered(link) && !link.leads_to_address()).map(|link| link.host.clone())
}

/// Three or more hyphens in what was registered: a sentence for a name.
pub(in crate::spam::checks) fn link_hyphened_host(facts: &Facts) -> Option<String> {
    let hyphened = |link: &&Link| {
        let label = registered_label(&link.host);
        !label.starts_with("xn--") && label.matches('-').count() >= 3
    };
    strange(facts).find(hyphened).map(|link| link.host.clone())
}

/// Links to names that somebody registered for the purpose; neither to shorteners nor to places for everybody.
fn strange(facts: &Facts) -> impl Iterator<Item = &Link> {
    clicks(facts).filter(|link| !link.leads_to_address() && !shorteners::is_shortener(&link.host) && link.hosting.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_names_are_told_from_names() {
        for random in ["xkqzvtrw", "a8k3d9q2", "dtrhprblmwq"] {
            assert!(is_random(random), "{random}");
        }
        for name in
            ["schwarzwaldradio", "htmlplanet", "freshrpms", "angstschweiss", "example", "4711koeln", "xn--bcher-kva", "mp3shop24"]
        {
            assert!(!is_random(name), "{name}");
        }
    }
}
