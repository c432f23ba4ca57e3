//! What kind of thing a tag's name stands for.

/// As far as reading a text needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Anchor,
    Area,
    Base,
    Block,
    Body,
    Break,
    Form,
    Frame,
    Image,
    /// Parts no word.
    Inline,
    Input,
    Meta,
    /// What is inside is not text.
    Raw,
    Table,
    /// Has no content; also declarations and instructions.
    Void,
    /// Of another language: `o:p`.
    Foreign,
    /// Known to no version of HTML.
    Unknown,
}

/// Longer names are unknown.
const NAME_MAX: usize = 16;

impl Kind {
    pub fn of(name: &str) -> Kind {
        let mut lower = [0; NAME_MAX];
        let Some(lower) = lower.get_mut(..name.len()) else { return Kind::other(name) };
        lower.copy_from_slice(name.as_bytes());
        lower.make_ascii_lowercase();
        match &*lower {
            b"a" => Kind::Anchor,
            b"area" => Kind::Area,
            b"base" => Kind::Base,
            b"html" | b"body" => Kind::Body,
            b"br" => Kind::Break,
            b"form" => Kind::Form,
            b"iframe" | b"frame" | b"object" | b"embed" => Kind::Frame,
            b"img" => Kind::Image,
            b"input" => Kind::Input,
            b"meta" => Kind::Meta,
            b"script" | b"style" | b"title" | b"noscript" | b"xml" => Kind::Raw,
            b"table" => Kind::Table,
            b"p" | b"div" | b"tr" | b"td" | b"th" | b"li" | b"ul" | b"ol" | b"h1" | b"h2" | b"h3" | b"h4" | b"h5" | b"h6"
            | b"center" | b"blockquote" | b"pre" | b"section" | b"option" | b"dd" | b"dt" | b"dl" | b"article" | b"header"
            | b"footer" | b"main" | b"aside" | b"nav" | b"address" | b"fieldset" | b"figure" | b"figcaption" | b"caption" => {
                Kind::Block
            }
            b"hr" => Kind::Break,
            b"link" | b"col" | b"wbr" | b"source" | b"param" | b"basefont" | b"bgsound" | b"spacer" | b"track" | b"frameset" => {
                Kind::Void
            }
            b"b" | b"i" | b"u" | b"s" | b"span" | b"font" | b"strong" | b"em" | b"small" | b"big" | b"sub" | b"sup" | b"tt"
            | b"code" | b"samp" | b"kbd" | b"var" | b"cite" | b"q" | b"abbr" | b"acronym" | b"dfn" | b"del" | b"ins" | b"strike"
            | b"mark" | b"head" | b"tbody" | b"thead" | b"tfoot" | b"colgroup" | b"map" | b"label" | b"button" | b"select"
            | b"optgroup" | b"textarea" | b"legend" | b"nobr" | b"marquee" | b"blink" | b"layer" | b"ilayer" | b"dir" | b"menu"
            | b"noframes" | b"applet" | b"bdo" | b"bdi" | b"time" | b"picture" | b"video" | b"audio" | b"canvas" | b"svg" | b"path"
            | b"g" | b"rect" | b"circle" | b"defs" | b"use" | b"math" | b"hgroup" | b"summary" | b"details" | b"dialog" | b"data"
            | b"output" | b"progress" | b"meter" | b"ruby" | b"rt" | b"rp" | b"rb" | b"template" | b"slot" | b"search" | b"listing"
            | b"xmp" | b"plaintext" | b"noembed" | b"noindex" | b"multicol" | b"x-claris-window" | b"personname" | b"place"
            // Mail programs' own.
            | b"signature" | b"container" | b"custom" | b"preheader" | b"outlook" | b"fixed" | b"smarttagtype" | b"city" | b"state"
            | b"street" | b"country-region" | b"placename" | b"placetype" | b"date" | b"bodytext" | b"default" | b"unsubscribe" => {
                Kind::Inline
            }
            _ => Kind::other(name),
        }
    }

    fn other(name: &str) -> Kind {
        if name.is_empty() || name.starts_with(['!', '?']) {
            return Kind::Void;
        }
        let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric());
        // `<o:p>`, custom elements and an address in brackets (`<joe@example.com>`) are no nonsense.
        if letters { Kind::Unknown } else { Kind::Foreign }
    }

    /// Opens nothing.
    pub fn is_void(self) -> bool {
        matches!(self, Kind::Area | Kind::Base | Kind::Break | Kind::Frame | Kind::Image | Kind::Input | Kind::Meta | Kind::Void)
    }
}
