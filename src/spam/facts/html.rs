//! HTML as a reader sees it: its text, what is hidden from the eye, links, images, forms, and how it is built.
//!
//! A tolerant scanner of tags, not a browser: no tree, no style sheets. It reads every byte once. Text that is hidden is
//! set apart, not dropped: whoever fools this scanner about what is hidden gains nothing.

mod look;
mod tags;

use mail_parser::decoders::html::add_html_token;

use super::links::{Link, Place};
use crate::spam::text::{TEXT_MAX, prefix};
use look::Look;
use tags::Kind;

/// Attributes kept of one tag.
const ATTRIBUTES_MAX: usize = 24;
/// Open elements remembered, to know where hiding ends.
const OPEN_MAX: usize = 256;
/// A closing tag looks so far back for its opening one.
const CLOSE_REACH: usize = 16;
/// Links kept; the list of the whole message is shorter.
const LINKS_MAX: usize = 2_000;
/// The longest entity, in bytes, is `&CounterClockwiseContourIntegral;`.
const ENTITY_MAX: usize = 34;
/// So many line breaks without a word between them push what follows off the screen.
const GAP_BREAKS: usize = 30;
/// Letters of the line that mail programs show behind the subject, and that pages hide in front of their text.
const PREVIEW_MAX: usize = 300;

/// What an HTML text consists of.
#[derive(Default)]
pub(in crate::spam) struct Html {
    pub visible: String,
    pub hidden: String,
    pub links: Vec<Link>,
    pub images: usize,
    /// Images of one pixel, which count readers.
    pub pixels: usize,
    pub forms: usize,
    pub password_inputs: usize,
    pub scripts: usize,
    pub frames: usize,
    /// Attributes that run code: `onclick`, `onload`.
    pub handlers: usize,
    /// Image maps: places of an image that are links.
    pub areas: usize,
    /// `<meta http-equiv=refresh>`: leads elsewhere by itself.
    pub refreshes: usize,
    /// `<base href>`: short links lead elsewhere than they say.
    pub base: bool,
    pub tables: usize,
    /// Tags that no version of HTML has.
    pub nonsense_tags: usize,
    /// Words parted by a comment, a nonsense tag or hidden letters.
    pub parted_words: usize,
    /// Letters written as numbers: `&#118;&#105;`.
    pub numbered_letters: usize,
    /// Letters of the colour they stand on, but for the preview line in front of all that is seen.
    pub camouflaged: usize,
    /// Bytes of comments, without those for Outlook.
    pub comments: usize,
    /// Bytes of text below a gap of many empty lines.
    pub below_gap: usize,
    /// Has `<html>` or `<body>`.
    pub document: bool,
    /// Ends within a tag or a comment.
    pub unfinished: bool,
}

impl Html {
    pub fn read(html: &str) -> Html {
        let mut reader = Reader {
            html,
            at: 0,
            seen: Html::default(),
            attributes: Vec::new(),
            open: Vec::new(),
            page: Look::of_a_page(),
            anchor: None,
            base: None,
            seam: false,
            breaks: 0,
            begun: false,
            preview: 0,
        };
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
    /// Those of the last tag.
    attributes: Vec<(&'h str, &'h str)>,
    /// Open elements, each with how it looks.
    open: Vec<(&'h str, Look)>,
    /// How text looks outside of them.
    page: Look,
    /// The target of the open anchor, and where its text begins.
    anchor: Option<(&'h str, usize)>,
    base: Option<&'h str>,
    /// Something invisible stood here since the last visible letter.
    seam: bool,
    /// Line breaks since the last word.
    breaks: usize,
    /// A letter was seen that is not hidden.
    begun: bool,
    /// Letters of the preview line so far.
    preview: usize,
}

/// A tag as written.
pub(super) struct Tag<'h, 'a> {
    name: &'h str,
    attributes: &'a [(&'h str, &'h str)],
}

impl<'h> Tag<'h, '_> {
    fn attribute(&self, name: &str) -> Option<&'h str> {
        self.attributes.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }

    fn has(&self, name: &str, value: &str) -> bool {
        self.attribute(name).is_some_and(|own| own.trim().eq_ignore_ascii_case(value))
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
        match rest.as_bytes().get(1) {
            Some(b'!') if rest.starts_with("<!--") => self.comment(rest),
            Some(b'a'..=b'z' | b'A'..=b'Z' | b'/' | b'!' | b'?') => {
                // Taken out while the element is read, so that its memory serves every tag.
                let mut attributes = std::mem::take(&mut self.attributes);
                let (name, closing) = self.tag(&mut attributes);
                self.element(&Tag { name, attributes: &attributes }, closing);
                attributes.clear();
                self.attributes = attributes;
            }
            _ => self.text_until(self.at + 1),
        }
    }

    fn comment(&mut self, rest: &str) {
        let end = memchr::memmem::find(&rest.as_bytes()[4..], b"-->");
        self.seen.unfinished |= end.is_none();
        let text = &rest[4..end.map_or(rest.len(), |end| end + 4)];
        // `<!--[if mso]>` is for Outlook, `<!-- -->` what some template engines put between words.
        if !text.trim().is_empty() && !text.trim_start().starts_with(['[', '<']) {
            self.seen.comments += text.len();
            self.seam = true;
        }
        self.at += (text.len() + 7).min(rest.len());
    }

    fn text_until(&mut self, end: usize) {
        let text = &self.html[self.at..end];
        self.at = end;
        let look = self.look();
        let hidden = look.is_hidden();
        let target = if hidden { &mut self.seen.hidden } else { &mut self.seen.visible };
        let start = target.len();
        self.seen.numbered_letters += push_text(target, text);
        let added = &target[start..];
        if hidden {
            self.seam |= added.starts_with(|letter: char| letter.is_ascii_alphanumeric());
            if look.is_camouflaged() {
                let letters = added.chars().filter(|letter| letter.is_alphanumeric()).count();
                let preview = if self.begun { 0 } else { letters.min(PREVIEW_MAX - self.preview) };
                self.preview += preview;
                self.seen.camouflaged += letters - preview;
            }
        } else if !added.is_empty() {
            self.begun = self.begun || added.contains(char::is_alphanumeric);
            let before = target[..start].ends_with(|letter: char| letter.is_ascii_alphabetic());
            let parted = self.seam && before && added.starts_with(|letter: char| letter.is_ascii_alphabetic());
            self.seen.parted_words += usize::from(parted);
            self.seam = false;
            self.below_breaks(start);
        }
    }

    /// Counts line breaks, and text that stands below too many of them.
    fn below_breaks(&mut self, start: usize) {
        let added = self.seen.visible[start..].trim_matches(|letter: char| letter.is_whitespace() || letter == '\u{a0}');
        if !added.is_empty() {
            let below = self.seen.below_gap > 0 || self.breaks >= GAP_BREAKS;
            self.seen.below_gap += if below { added.len() } else { 0 };
            self.breaks = 0;
        }
    }

    /// Reads from `<` past `>`; without one, to the end, as browsers do. Returns the name, and whether the tag closes.
    fn tag(&mut self, attributes: &mut Vec<(&'h str, &'h str)>) -> (&'h str, bool) {
        let (html, bytes) = (self.html, self.html.as_bytes());
        let closing = bytes.get(self.at + 1) == Some(&b'/');
        self.at += if closing { 2 } else { 1 };
        let (start, end) = self.skip_until(|byte| byte.is_ascii_whitespace() || matches!(byte, b'>' | b'/'));
        loop {
            self.skip_until(|byte| !byte.is_ascii_whitespace() && byte != b'/');
            match bytes.get(self.at) {
                None => {
                    self.seen.unfinished = true;
                    return (&html[start..end], closing);
                }
                Some(b'>') => {
                    self.at += 1;
                    return (&html[start..end], closing);
                }
                Some(_) => {
                    let attribute = self.attribute();
                    if attributes.len() < ATTRIBUTES_MAX {
                        attributes.push(attribute);
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
                let start = self.at + 1;
                let end = memchr::memchr(quote, &bytes[start..]).map_or(bytes.len(), |length| start + length);
                self.at = (end + 1).min(bytes.len());
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

    fn element(&mut self, tag: &Tag<'h, '_>, closing: bool) {
        let kind = Kind::of(tag.name);
        match kind {
            Kind::Raw if !closing => return self.raw(tag),
            Kind::Unknown => {
                self.seen.nonsense_tags += 1;
                self.seam = true;
            }
            Kind::Block | Kind::Table | Kind::Body | Kind::Break => self.block(kind),
            _ => {}
        }
        if closing { self.close(kind, tag.name) } else { self.open(kind, tag) }
    }

    /// Script, style and title: to the closing tag of the same name, or to the end.
    fn raw(&mut self, tag: &Tag<'h, '_>) {
        if tag.name.eq_ignore_ascii_case("script") {
            // `application/ld+json` is data for the mail program: what an order or a flight is about.
            let is_data = tag.attribute("type").is_some_and(|kind| kind.to_ascii_lowercase().ends_with("json"));
            self.seen.scripts += usize::from(!is_data);
        } else if tag.name.eq_ignore_ascii_case("style") {
            self.page = self.page.with_style_sheet();
        }
        let bytes = self.html.as_bytes();
        for lt in memchr::memchr_iter(b'<', &bytes[self.at..]).map(|lt| self.at + lt) {
            let rest = &bytes[lt + 1..];
            let ends = |rest: &[u8]| rest.get(..tag.name.len()).is_some_and(|end| end.eq_ignore_ascii_case(tag.name.as_bytes()));
            if rest.strip_prefix(b"/").is_some_and(ends) {
                self.at = lt;
                self.tag(&mut Vec::new());
                return;
            }
        }
        self.at = bytes.len();
    }

    /// Blocks stand apart; what is inline must not part a word.
    fn block(&mut self, kind: Kind) {
        self.breaks += usize::from(kind == Kind::Break);
        let text = if self.look().is_hidden() { &mut self.seen.hidden } else { &mut self.seen.visible };
        if !text.ends_with('\n') && text.len() < TEXT_MAX {
            text.push('\n');
        }
    }

    fn open(&mut self, kind: Kind, tag: &Tag<'h, '_>) {
        let is_handler =
            |(name, _): &&(&str, &str)| name.len() > 4 && name.get(..2).is_some_and(|on| on.eq_ignore_ascii_case("on"));
        self.seen.handlers += tag.attributes.iter().filter(is_handler).count();
        match kind {
            Kind::Anchor | Kind::Area => {
                self.end_anchor();
                self.seen.areas += usize::from(kind == Kind::Area);
                self.anchor = tag.attribute("href").map(|href| (href, self.seen.visible.len()));
            }
            Kind::Image => {
                self.seen.images += 1;
                self.breaks = 0;
                self.seen.pixels += usize::from(tag.has("width", "1") && tag.has("height", "1"));
                self.keep(Place::Image, tag.attribute("src"));
            }
            Kind::Form => {
                self.seen.forms += 1;
                self.keep(Place::Form, tag.attribute("action"));
            }
            Kind::Frame => {
                self.seen.frames += 1;
                self.keep(Place::Frame, tag.attribute("src"));
            }
            Kind::Input => self.seen.password_inputs += usize::from(tag.has("type", "password")),
            Kind::Meta => self.seen.refreshes += usize::from(tag.has("http-equiv", "refresh")),
            Kind::Base => {
                self.base = tag.attribute("href").filter(|href| !href.is_empty());
                self.seen.base |= self.base.is_some();
            }
            Kind::Table => self.seen.tables += 1,
            Kind::Block if tag.name.len() == 1 => self.breaks += 1,
            Kind::Body => self.seen.document = true,
            _ => {}
        }
        if !kind.is_void() && self.open.len() < OPEN_MAX {
            self.open.push((tag.name, self.look().within(tag)));
        }
    }

    fn close(&mut self, kind: Kind, name: &str) {
        if kind == Kind::Anchor {
            self.end_anchor();
        }
        let reach = self.open.len().saturating_sub(CLOSE_REACH);
        if let Some(found) = self.open[reach..].iter().rposition(|(open, _)| open.eq_ignore_ascii_case(name)) {
            self.open.truncate(reach + found);
        }
    }

    fn look(&self) -> Look {
        self.open.last().map_or(self.page, |(_, look)| *look)
    }

    fn end_anchor(&mut self) {
        if let Some((href, start)) = self.anchor.take() {
            let shown = self.seen.visible.get(start..).unwrap_or_default().trim();
            let link = self.link(Place::Anchor, href, shown);
            self.seen.links.extend(link);
        }
    }

    fn keep(&mut self, place: Place, url: Option<&str>) {
        let link = url.and_then(|url| self.link(place, url, ""));
        self.seen.links.extend(link);
    }

    fn link(&self, place: Place, url: &str, shown: &str) -> Option<Link> {
        if self.seen.links.len() >= LINKS_MAX {
            return None;
        }
        let url = entities_decoded(url);
        let based =
            || self.base.filter(|_| !url.starts_with('#') && !url.contains(':')).map(|base| entities_decoded(base) + &url);
        Link::read(place, &url, shown).or_else(|| Link::read(place, &based()?, shown))
    }
}

/// Text with its entities decoded, bounded. Returns how many of them were plain letters written as numbers.
fn push_text(target: &mut String, text: &str) -> usize {
    let mut numbered = 0;
    let mut rest = prefix(text, TEXT_MAX.saturating_sub(target.len()));
    while let Some(at) = memchr::memchr(b'&', rest.as_bytes()) {
        target.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = memchr::memchr(b';', &rest.as_bytes()[..rest.len().min(ENTITY_MAX)]).map_or(1, |end| end + 1);
        let start = target.len();
        add_html_token(target, &rest.as_bytes()[..end], false);
        numbered += usize::from(rest[1..].starts_with('#') && target[start..].starts_with(|c: char| c.is_ascii_alphanumeric()));
        rest = &rest[end..];
    }
    target.push_str(rest);
    numbered
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
        reads("<td style='font-size:0px'><div style='font-size:13px'>x</div></td>", "x", "");
        reads("<p style='position:absolute; left:-999px'>x</p>y", "y", "x");
        reads("<p style='height:0;overflow:hidden'>x</p>y", "y", "x");
    }

    #[test]
    fn text_of_the_colour_it_stands_on_is_hidden() {
        reads("<font color=#ffffff>x</font>y", "y", "x");
        reads("<body bgcolor='#102030'><p style='color: rgb(16,32,48)'>x</p>y", "y", "x");
        reads("<table bgcolor=black><tr><td><font color=white>x</font></table>", "x", "");
        reads("<style>td{background:red}</style><td><font color=white>x</font>", "x", "");
        reads("<td class=dark><font color=white>x</font>", "x", "");
        reads("<td background=x.png><font color=white>x</font>", "x", "");
        assert_eq!(Html::read("x<font color=white>a&nbsp;bc</font>").camouflaged, 3);
    }

    #[test]
    fn a_preview_line_is_not_camouflaged() {
        let camouflaged = |html: &str| Html::read(html).camouflaged;
        assert_eq!(camouflaged("<body><div style='color:#fff'>Your order&zwnj;&nbsp;</div><p>Hello</p>"), 0);
        assert_eq!(camouflaged(&format!("<font color=white>{}</font>Hello", "a ".repeat(PREVIEW_MAX + 5))), 5);
    }

    #[test]
    fn parted_words_are_counted() {
        let parted = |html: &str| Html::read(html).parted_words;
        assert_eq!(parted("vi<!-- x -->ag<kzrt>ra pi<b style='display:none'>q</b>lls"), 3);
        assert_eq!(parted("w<b>or</b>ld <!-- x --> to<!-- -->day a<!--[if mso]>x<![endif]-->b"), 0);
    }

    #[test]
    fn how_it_is_built_is_counted() {
        let seen = Html::read(concat!(
            "<html><base href='https://e.example/'><meta http-equiv=Refresh content=0><body onload=x()>",
            "<a href='go'>&#118;&#x69;&#228;</a><area href=x><img width=1 height=1><o:p></o:p><hgfds>",
            "<table>",
            "x<br>",
            "&nbsp;<br>",
            "<!-- words of no use ",
        ));
        assert_eq!((seen.base, seen.refreshes, seen.handlers, seen.areas, seen.pixels), (true, 1, 1, 1, 1));
        assert_eq!((seen.numbered_letters, seen.nonsense_tags, seen.tables, seen.unfinished), (2, 1, 1, true));
        assert_eq!(seen.links[0].url, "https://e.example/go");
        let gap = format!("<p>Hello{}below", "<br>&nbsp;".repeat(40));
        assert_eq!(Html::read(&gap).below_gap, 5);
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

    /// Each takes milliseconds; what grows faster than its input would take minutes.
    #[test]
    fn nonsense_ends() {
        for nonsense in [
            "<",
            "<a",
            "<a b=\"",
            "<a b='",
            "</",
            "<!--",
            "<!",
            "&",
            "<ä",
            "<a ä=\"ü\">",
            "<a =",
            "<a/=>",
            "&#xffffffff;",
            "\"",
            "'",
            "&#",
            "<p style='",
            "<p style='font:;color:#ä;:'>",
            "<div><p>",
            "</div></p>",
            "<font color=white>x",
            "<br>\u{a0}",
            "<a href=x>y",
            "<!--x-->a",
            "<style>",
            "</style",
            "<b\u{0}>",
            "<base href=a><a href=b>c",
        ] {
            Html::read(nonsense);
            Html::read(&nonsense.repeat((1 << 20) / nonsense.len()));
        }
    }

    proptest::proptest! {
        #[test]
        fn anything_is_read(html in "(<|>|/|!|--|&|;|#|=|\"|'|:|%|a|b|p |td|br|font|span|style|color|display|none|hidden|0|9|white|ä|\u{200b}|\n| ){0,60}") {
            let seen = Html::read(&html);
            // Entities grow to at most a few letters each.
            proptest::prop_assert!(seen.visible.len() + seen.hidden.len() <= html.len() * 4);
        }

        #[test]
        fn any_text_is_read(html in ".{0,200}") {
            Html::read(&html);
        }
    }
}
