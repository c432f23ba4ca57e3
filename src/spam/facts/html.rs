//! HTML as a reader sees it: its text, what is hidden from the eye, links, images, forms.
//!
//! A tolerant scanner of tags, not a browser: no tree, no style sheets. It reads every byte once. Text that is hidden is
//! set apart, not dropped: whoever fools this scanner about what is hidden gains nothing.

use mail_parser::decoders::html::add_html_token;

use super::links::{Link, Place};
use crate::spam::text::{TEXT_MAX, prefix};

/// Attributes kept of one tag.
const ATTRIBUTES_MAX: usize = 24;
/// Of one style attribute, in bytes.
const STYLE_MAX: usize = 1 << 10;
/// Open elements remembered, to know where hiding ends.
const OPEN_MAX: usize = 256;
/// A closing tag looks so far back for its opening one.
const CLOSE_REACH: usize = 16;
/// Links kept; the list of the whole message is shorter.
const LINKS_MAX: usize = 2_000;
/// The longest entity, in bytes, is `&CounterClockwiseContourIntegral;`.
const ENTITY_MAX: usize = 34;

/// What an HTML text consists of.
#[derive(Default)]
pub(in crate::spam) struct Html {
    pub visible: String,
    pub hidden: String,
    pub links: Vec<Link>,
    pub images: usize,
    pub forms: usize,
    pub password_inputs: usize,
    pub scripts: usize,
    pub frames: usize,
}

impl Html {
    pub fn read(html: &str) -> Html {
        let mut reader = Reader { html, at: 0, seen: Html::default(), open: Vec::new(), hiding: 0, anchor: None };
        while reader.at < html.len() {
            reader.step();
        }
        reader.end_anchor();
        reader.seen
    }
}

struct Reader<'h> {
    html: &'h str,
    at: usize,
    seen: Html,
    /// Open elements, each with whether it hides what is in it.
    open: Vec<(&'h str, bool)>,
    /// How many of them hide.
    hiding: usize,
    /// The target of the open anchor, and where its text begins.
    anchor: Option<(&'h str, usize)>,
}

/// A tag as written.
struct Tag<'h> {
    name: &'h str,
    closing: bool,
    attributes: Vec<(&'h str, &'h str)>,
}

impl Tag<'_> {
    fn is(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.name.eq_ignore_ascii_case(name))
    }
}

impl<'h> Tag<'h> {
    fn attribute(&self, name: &str) -> Option<&'h str> {
        self.attributes.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }
}

impl<'h> Reader<'h> {
    /// One run of text, one comment or one tag.
    fn step(&mut self) {
        let rest = &self.html[self.at..];
        let Some(open) = memchr::memchr(b'<', rest.as_bytes()) else { return self.text_until(self.html.len()) };
        if open > 0 {
            return self.text_until(self.at + open);
        }
        if rest.starts_with("<!--") {
            self.at += memchr::memmem::find(&rest.as_bytes()[4..], b"-->").map_or(rest.len(), |end| end + 7);
        } else if rest[1..].starts_with(|letter: char| letter.is_ascii_alphabetic() || matches!(letter, '/' | '!' | '?')) {
            let tag = self.tag();
            self.element(&tag);
        } else {
            self.text_until(self.at + 1);
        }
    }

    fn text_until(&mut self, end: usize) {
        let text = &self.html[self.at..end];
        self.at = end;
        let target = if self.hiding > 0 { &mut self.seen.hidden } else { &mut self.seen.visible };
        push_text(target, text);
    }

    /// Reads from `<` past `>`; without one, to the end, as browsers do.
    fn tag(&mut self) -> Tag<'h> {
        let (html, bytes) = (self.html, self.html.as_bytes());
        let closing = bytes.get(self.at + 1) == Some(&b'/');
        self.at += if closing { 2 } else { 1 };
        let name_end = self.skip_until(|byte| byte.is_ascii_whitespace() || matches!(byte, b'>' | b'/'));
        let mut tag = Tag { name: &html[name_end.0..name_end.1], closing, attributes: Vec::new() };
        loop {
            self.skip_until(|byte| !byte.is_ascii_whitespace() && byte != b'/');
            match bytes.get(self.at) {
                None => return tag,
                Some(b'>') => {
                    self.at += 1;
                    return tag;
                }
                Some(_) => {
                    let attribute = self.attribute();
                    if tag.attributes.len() < ATTRIBUTES_MAX {
                        tag.attributes.push(attribute);
                    }
                }
            }
        }
    }

    fn attribute(&mut self) -> (&'h str, &'h str) {
        let (html, bytes) = (self.html, self.html.as_bytes());
        let start = self.at;
        self.at += 1;
        let (_, name_end) = self.skip_until(|byte| byte.is_ascii_whitespace() || matches!(byte, b'>' | b'/' | b'='));
        let name = html.get(start..name_end).unwrap_or_default();
        self.skip_until(|byte| !byte.is_ascii_whitespace());
        if bytes.get(self.at) != Some(&b'=') {
            return (name, "");
        }
        self.at += 1;
        self.skip_until(|byte| !byte.is_ascii_whitespace());
        match bytes.get(self.at) {
            Some(&quote @ (b'"' | b'\'')) => {
                self.at += 1;
                let (start, end) = self.skip_until(|byte| byte == quote);
                self.at = (self.at + 1).min(bytes.len());
                (name, &html[start..end])
            }
            _ => {
                let (start, end) = self.skip_until(|byte| byte.is_ascii_whitespace() || byte == b'>');
                (name, &html[start..end])
            }
        }
    }

    /// Moves to the first byte that fits, all of them ASCII; returns the range that was passed.
    fn skip_until(&mut self, fits: impl Fn(u8) -> bool) -> (usize, usize) {
        let bytes = self.html.as_bytes();
        let start = self.at.min(bytes.len());
        self.at = bytes[start..].iter().position(|byte| fits(*byte)).map_or(bytes.len(), |length| start + length);
        (start, self.at)
    }

    fn element(&mut self, tag: &Tag<'h>) {
        if tag.is(&["script", "style", "title", "noscript", "xml"]) && !tag.closing {
            self.seen.scripts += usize::from(tag.is(&["script"]));
            return self.skip_raw(tag.name);
        }
        self.space_for(tag);
        if tag.closing { self.close(tag) } else { self.open(tag) }
    }

    /// To the closing tag of the same name, or to the end.
    fn skip_raw(&mut self, name: &str) {
        let bytes = self.html.as_bytes();
        for lt in memchr::memchr_iter(b'<', &bytes[self.at..]).map(|lt| self.at + lt) {
            let rest = &bytes[lt + 1..];
            if rest.first() == Some(&b'/')
                && rest.get(1..=name.len()).is_some_and(|end| end.eq_ignore_ascii_case(name.as_bytes()))
            {
                self.at = lt;
                self.tag();
                return;
            }
        }
        self.at = bytes.len();
    }

    /// Blocks stand apart; what is inline must not part a word.
    fn space_for(&mut self, tag: &Tag<'_>) {
        const BLOCKS: [&str; 24] = [
            "p",
            "div",
            "br",
            "tr",
            "td",
            "th",
            "li",
            "ul",
            "ol",
            "table",
            "h1",
            "h2",
            "h3",
            "h4",
            "h5",
            "h6",
            "hr",
            "center",
            "blockquote",
            "pre",
            "section",
            "option",
            "body",
            "dd",
        ];
        if tag.is(&BLOCKS) {
            let text = if self.hiding > 0 { &mut self.seen.hidden } else { &mut self.seen.visible };
            if !text.ends_with('\n') && text.len() < TEXT_MAX {
                text.push('\n');
            }
        }
    }

    fn open(&mut self, tag: &Tag<'h>) {
        let link = |place, url| Link::read(place, &entities_decoded(url), "");
        if tag.is(&["a", "area"]) {
            self.end_anchor();
            self.anchor = tag.attribute("href").map(|href| (href, self.seen.visible.len()));
        } else if tag.is(&["img"]) {
            self.seen.images += 1;
            self.keep(tag.attribute("src").and_then(|src| link(Place::Image, src)));
        } else if tag.is(&["form"]) {
            self.seen.forms += 1;
            self.keep(tag.attribute("action").and_then(|action| link(Place::Form, action)));
        } else if tag.is(&["iframe", "frame", "object", "embed"]) {
            self.seen.frames += 1;
            self.keep(tag.attribute("src").and_then(|src| link(Place::Frame, src)));
        } else if tag.is(&["input"]) && tag.attribute("type").is_some_and(|kind| kind.eq_ignore_ascii_case("password")) {
            self.seen.password_inputs += 1;
        }
        const VOID: [&str; 14] =
            ["br", "img", "hr", "meta", "input", "link", "area", "base", "col", "wbr", "source", "embed", "!doctype", "param"];
        if self.open.len() < OPEN_MAX && !tag.is(&VOID) {
            let hides = hides(tag);
            self.hiding += usize::from(hides);
            self.open.push((tag.name, hides));
        }
    }

    fn close(&mut self, tag: &Tag<'_>) {
        if tag.is(&["a"]) {
            self.end_anchor();
        }
        let reach = self.open.len().saturating_sub(CLOSE_REACH);
        if let Some(found) = self.open[reach..].iter().rposition(|(name, _)| name.eq_ignore_ascii_case(tag.name)) {
            for (_, hides) in self.open.drain(reach + found..) {
                self.hiding -= usize::from(hides);
            }
        }
    }

    fn end_anchor(&mut self) {
        if let Some((href, start)) = self.anchor.take() {
            let shown = self.seen.visible.get(start..).unwrap_or_default().trim();
            let link = Link::read(Place::Anchor, &entities_decoded(href), shown);
            self.keep(link);
        }
    }

    fn keep(&mut self, link: Option<Link>) {
        if self.seen.links.len() < LINKS_MAX {
            self.seen.links.extend(link);
        }
    }
}

/// Does the element's own style take its content out of sight?
fn hides(tag: &Tag<'_>) -> bool {
    if tag.attribute("hidden").is_some() {
        return true;
    }
    let Some(style) = tag.attribute("style") else { return false };
    let style: String = prefix(style, STYLE_MAX).chars().filter(|letter| !letter.is_whitespace()).collect();
    style.to_ascii_lowercase().split(';').any(|declaration| {
        let (property, value) = declaration.split_once(':').unwrap_or_default();
        let value = value.trim_end_matches("!important");
        let zero = || matches!(value.trim_end_matches(|letter: char| letter.is_ascii_alphabetic() || letter == '%'), "0" | "0.0");
        match property {
            "display" => value == "none",
            "visibility" => value == "hidden",
            "opacity" | "max-height" | "line-height" => zero(),
            "font-size" => zero() || value == "1px",
            "color" => value == "transparent",
            "mso-hide" => value == "all",
            _ => false,
        }
    })
}

/// Text with its entities decoded, bounded.
fn push_text(target: &mut String, text: &str) {
    let mut rest = prefix(text, TEXT_MAX.saturating_sub(target.len()));
    while let Some(at) = memchr::memchr(b'&', rest.as_bytes()) {
        target.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = memchr::memchr(b';', &rest.as_bytes()[..rest.len().min(ENTITY_MAX)]).map_or(1, |end| end + 1);
        add_html_token(target, &rest.as_bytes()[..end], false);
        rest = &rest[end..];
    }
    target.push_str(rest);
}

fn entities_decoded(text: &str) -> String {
    let mut decoded = String::new();
    push_text(&mut decoded, prefix(text, 4 << 10));
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn reads(html: &str, visible: &str, hidden: &str) {
        let seen = Html::read(html);
        assert_eq!((seen.visible.trim(), seen.hidden.trim()), (visible, hidden), "{html}");
    }

    #[test]
    fn text_is_what_a_reader_sees() {
        reads("<html><head><title>t</title><style>p{}</style></head><body><p>Hello</p><p>w<b>or</b>ld</p>", "Hello\nworld", "");
        reads("a &lt;b&gt; &uuml;&#x41;&#66; &unknown; & c", "a <b> üAB &unknown; & c", "");
        reads("1 < 2 <3", "1 < 2 <3", "");
        reads("pass<!-- x -->word<script>if (a<b) {}</script >!", "password!", "");
        reads("<a href='x>y' title=\"a>b\">link</a>", "link", "");
        reads("text <b unfinished", "text", "");
    }

    #[test]
    fn hidden_text_is_set_apart() {
        reads("a<span style='display : NONE'>b<i>c</i></span>d", "ad", "bc");
        reads("<div style=\"font-size:0px;color:red\">x</div>y", "y", "x");
        reads("<p style='font-size:0.9em;opacity:0.8'>x</p>", "x", "");
        reads("<div hidden>x<br>y</div>z", "z", "x\ny");
        reads("<td style='display:none'>x<table><tr><td>y</table></td>z", "z", "x\ny");
    }

    #[test]
    fn links_show_what_they_show() {
        let seen = Html::read(
            "<a href=\"https://e.example/?a=1&amp;b=2\"><b>bank</b>.example</a><a href=//f.example><img src='cid:1'></a>",
        );
        let links: Vec<_> = seen.links.iter().map(|link| (link.url.as_str(), link.shown.as_str())).collect();
        assert_eq!(links, [("https://e.example/?a=1&b=2", "bank.example"), ("//f.example", "")]);
        assert_eq!(seen.images, 1);
    }

    #[test]
    fn forms_and_scripts_are_counted() {
        let seen =
            Html::read("<form action=https://e.example/p><input type=PASSWORD></form><script>x</script><iframe src=//e.example>");
        assert_eq!((seen.forms, seen.password_inputs, seen.scripts, seen.frames), (1, 1, 1, 1));
        assert_eq!(seen.links.len(), 2);
    }

    #[test]
    fn nonsense_ends() {
        for nonsense in
            ["<", "<a", "<a b=\"", "<a b='", "</", "<!--", "<!", "&", "<ä", "<a ä=\"ü\">", "<a =", "<a/=>", "&#xffffffff;"]
        {
            Html::read(nonsense);
            Html::read(&nonsense.repeat(10_000));
        }
    }
}
