//! Checks of how HTML is built: what parts words, what runs, what leads elsewhere.

use crate::spam::facts::Facts;

pub(super) fn html_parted_words(facts: &Facts) -> Option<String> {
    (facts.html.parted_words >= 3).then(|| format!("{} words", facts.html.parted_words))
}

pub(super) fn html_nonsense_tags(facts: &Facts) -> Option<String> {
    (facts.html.nonsense_tags >= 3).then(|| format!("{} tags", facts.html.nonsense_tags))
}

pub(super) fn html_numbered_letters(facts: &Facts) -> Option<String> {
    let numbered = facts.html.numbered_letters;
    // An address written so is how honest pages hide it from collectors.
    (numbered >= 15 && numbered * 10 > facts.text_letters).then(|| format!("{numbered} letters"))
}

pub(super) fn html_camouflaged(facts: &Facts) -> Option<String> {
    (facts.html.camouflaged >= 20).then(|| format!("{} letters", facts.html.camouflaged))
}

pub(super) fn html_comments(facts: &Facts) -> Option<String> {
    let comments = facts.html.comments;
    (comments >= 500 && comments > facts.text_letters).then(|| format!("{comments} bytes"))
}

pub(super) fn html_handlers(facts: &Facts) -> Option<String> {
    (facts.html.handlers > 0).then(|| format!("{}", facts.html.handlers))
}

pub(super) fn html_refresh(facts: &Facts) -> Option<String> {
    (facts.html.refreshes > 0).then(String::new)
}

pub(super) fn html_base(facts: &Facts) -> Option<String> {
    facts.html.base.then(String::new)
}

pub(super) fn html_map(facts: &Facts) -> Option<String> {
    (facts.html.areas > 0).then(|| format!("{} places", facts.html.areas))
}

pub(super) fn html_pixel(facts: &Facts) -> Option<String> {
    (facts.html.pixels > 0).then(String::new)
}

pub(super) fn html_fragment(facts: &Facts) -> Option<String> {
    facts.html.fragment.then(String::new)
}

pub(super) fn html_unfinished(facts: &Facts) -> Option<String> {
    facts.html.unfinished.then(String::new)
}
