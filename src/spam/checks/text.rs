//! Checks of how a text is written, whatever it says and in which language.

use crate::spam::facts::Facts;

pub(super) fn text_shouts(facts: &Facts) -> Option<String> {
    let prose = &facts.prose;
    (prose.shouted >= 12 && prose.shouted * 3 > prose.could_shout).then(|| format!("{} words", prose.shouted))
}

pub(super) fn text_exclaims(facts: &Facts) -> Option<String> {
    let prose = &facts.prose;
    (prose.exclamations >= 5 && prose.exclamations * 20 > prose.words).then(|| format!("{} marks", prose.exclamations))
}

pub(super) fn text_repeated_marks(facts: &Facts) -> Option<String> {
    (facts.prose.repeated_marks >= 3).then(|| format!("{} times", facts.prose.repeated_marks))
}

pub(super) fn text_unpronounceable(facts: &Facts) -> Option<String> {
    let prose = &facts.prose;
    let many = prose.examples.len() >= 3 && prose.unpronounceable * 50 > prose.judged;
    many.then(|| prose.examples.join(" "))
}

pub(super) fn text_ends_in_noise(facts: &Facts) -> Option<String> {
    let last = facts.prose.last_line.as_str();
    noise(last).then(|| last.to_owned())
}

pub(super) fn text_word_salad(facts: &Facts) -> Option<String> {
    (facts.prose.salad >= 20).then(|| format!("{} words", facts.prose.salad))
}

pub(super) fn text_spaced_letters(facts: &Facts) -> Option<String> {
    (facts.prose.spaced >= 6).then(|| format!("{} letters", facts.prose.spaced))
}

pub(super) fn text_dotted_letters(facts: &Facts) -> Option<String> {
    (facts.prose.dotted > 0).then(String::new)
}

pub(super) fn text_sliced(facts: &Facts) -> Option<String> {
    (facts.prose.sliced_lines >= 15).then(|| format!("{} lines", facts.prose.sliced_lines))
}

pub(super) fn text_below_screen(facts: &Facts) -> Option<String> {
    let below = facts.prose.below_gap + facts.html.below_gap;
    (below >= 20).then(|| format!("{below} bytes"))
}

pub(super) fn text_overlaid_letters(facts: &Facts) -> Option<String> {
    let count = facts.folded.overlaid_letters;
    (count >= 5).then(|| format!("{count} letters"))
}

pub(super) fn text_turned(facts: &Facts) -> Option<String> {
    (facts.folded.overrides > 0).then(String::new)
}

pub(super) fn text_smuggled(facts: &Facts) -> Option<String> {
    let count = facts.folded.smuggled;
    (count >= 12).then(|| format!("{count} characters"))
}

pub(super) fn text_greets_address(facts: &Facts) -> Option<String> {
    facts
        .door
        .as_ref()?
        .recipients
        .iter()
        .find(|(_, address)| greets(&facts.folded.text, address))
        .map(|(_, address)| address.clone())
}

pub(super) fn text_contradicts_html(facts: &Facts) -> Option<String> {
    let both = facts.html.alternative?;
    let contradicts = both.plain_letters >= 100 && both.compared >= 20 && both.shared * 8 < both.compared;
    contradicts.then(|| format!("{} of {} words", both.shared, both.compared))
}

pub(super) fn text_empty_beside_html(facts: &Facts) -> Option<String> {
    let both = facts.html.alternative?;
    (both.plain_letters < 10 && both.html_letters >= 200).then(|| format!("{} letters", both.plain_letters))
}

pub(super) fn hidden_noise(facts: &Facts) -> Option<String> {
    let hidden = &facts.html.hidden;
    let noise = hidden.salad >= 12 || hidden.unpronounceable >= 3 && hidden.unpronounceable * 20 > hidden.judged;
    noise.then(|| format!("{} words in a row, {} that are none", hidden.salad, hidden.unpronounceable))
}

/// A single word without sense: letters and digits mixed, or letters that nobody could say.
fn noise(line: &str) -> bool {
    let letters = line.bytes().filter(u8::is_ascii_alphabetic).count();
    let digits = line.bytes().filter(u8::is_ascii_digit).count();
    let switches = line.as_bytes().windows(2).filter(|pair| pair[0].is_ascii_digit() != pair[1].is_ascii_digit()).count();
    letters + digits == line.len() && (8..=40).contains(&line.len()) && letters >= 3 && digits >= 2 && switches >= 3
}

/// Does the beginning of a text say `dear joe@customer.example` or `hello joe,`?
fn greets(text: &str, address: &str) -> bool {
    const GREETINGS: [&str; 17] = [
        "dear ",
        "hello ",
        "hi ",
        "hey ",
        "attention ",
        "attn ",
        "hallo ",
        "liebe ",
        "lieber ",
        "sehr geehrte ",
        "sehr geehrter ",
        "bonjour ",
        "cher ",
        "hola ",
        "ciao ",
        "caro ",
        "beste ",
    ];
    let beginning = crate::spam::text::prefix(text, 2_000);
    let addressed = |greeting: &&str| {
        memchr::memmem::find_iter(beginning.as_bytes(), greeting.as_bytes()).any(|at| {
            let word = at == 0 || !beginning.as_bytes()[at - 1].is_ascii_alphanumeric();
            word && beginning[at + greeting.len()..].trim_start_matches(['<', '"', ':', ' ']).starts_with(address)
        })
    };
    // Most texts do not hold it at all.
    let there = address.len() >= 6 && memchr::memmem::find(beginning.as_bytes(), address.as_bytes()).is_some();
    there && GREETINGS.iter().any(addressed)
}
