//! How an element's own attributes make its text look: out of sight, tiny, or of the colour it stands on.
//!
//! Inline styles and the old attributes only; what a style sheet says is not known, and an element with a class may have a
//! background of its own. Not knowing is read as visible.

use super::Tag;
use crate::spam::text::prefix;

/// Of one style attribute, in bytes.
const STYLE_MAX: usize = 1 << 10;
/// Two colours as near as this in every channel are one to the eye.
const NEAR: u8 = 12;

/// Red, green, blue.
type Colour = [u8; 3];

/// What is known of how text is shown, handed down from element to element.
#[derive(Clone, Copy, Default)]
pub(super) struct Look {
    /// Not shown at all.
    gone: bool,
    /// In letters nobody can see; an element within may have a size of its own, as newsletters do.
    tiny: bool,
    colour: Option<Colour>,
    background: Option<Colour>,
}

impl Look {
    /// Before anything is said: black on white, as far as one knows.
    pub fn of_a_page() -> Look {
        Look { background: Some([255; 3]), ..Look::default() }
    }

    pub fn is_hidden(self) -> bool {
        self.gone || self.tiny || self.is_camouflaged()
    }

    /// Of the colour it stands on.
    pub fn is_camouflaged(self) -> bool {
        let near = |(one, other): (u8, u8)| one.abs_diff(other) <= NEAR;
        let (Some(colour), Some(background)) = (self.colour, self.background) else { return false };
        colour.into_iter().zip(background).all(near)
    }

    /// A style sheet may give any background.
    pub fn with_style_sheet(self) -> Look {
        Look { background: None, ..self }
    }

    /// Within an element.
    pub fn within(self, tag: &Tag<'_, '_>) -> Look {
        let mut look = self;
        for (name, value) in tag.attributes {
            match name.len() {
                5 if name.eq_ignore_ascii_case("class") => look.background = None,
                5 if name.eq_ignore_ascii_case("color") => look.colour = colour(value),
                6 if name.eq_ignore_ascii_case("hidden") => look.gone = true,
                7 if name.eq_ignore_ascii_case("bgcolor") => look.background = colour(value),
                10 if name.eq_ignore_ascii_case("background") => look.background = None,
                _ => {}
            }
        }
        // After the others: a style beats an attribute.
        if let Some(style) = tag.attribute("style") {
            look.style(prefix(style, STYLE_MAX));
        }
        look
    }

    fn style(&mut self, style: &str) {
        let (mut outside, mut cut_off) = ((false, false), (false, false));
        for declaration in style.split(';') {
            let Some((property, value)) = declaration.split_once(':') else { continue };
            let (property, value) = (property.trim(), plain(value));
            let is = |name: &str| property.eq_ignore_ascii_case(name);
            match property.len() {
                5 if is("color") && value.eq_ignore_ascii_case("transparent") => self.gone = true,
                5 if is("color") => self.colour = colour(value),
                4 if is("font") => self.size(value.split_ascii_whitespace().find(|word| word.as_bytes()[0].is_ascii_digit())),
                9 if is("font-size") => self.size(Some(value)),
                7 if is("display") => self.gone |= value.eq_ignore_ascii_case("none"),
                7 if is("opacity") => self.gone |= number(value) == Some(0.0),
                8 if is("mso-hide") => self.gone |= value.eq_ignore_ascii_case("all"),
                10 if is("visibility") => self.gone |= value.eq_ignore_ascii_case("hidden"),
                10 if is("max-height") => self.gone |= number(value) == Some(0.0),
                10 if is("background") => self.background = value.split_ascii_whitespace().next().and_then(colour),
                16 if is("background-color") => self.background = colour(value),
                16 if is("background-image") => self.background = None,
                11 if is("text-indent") => self.gone |= far_off(value),
                8 if is("position") => outside.0 = value.eq_ignore_ascii_case("absolute") || value.eq_ignore_ascii_case("fixed"),
                8 if is("overflow") => cut_off.0 = value.eq_ignore_ascii_case("hidden"),
                6 if is("height") => cut_off.1 = number(value).is_some_and(|height| height <= 1.0) && !value.ends_with('%'),
                3 | 4 if is("top") || is("left") => outside.1 |= far_off(value),
                _ => {}
            }
        }
        self.gone |= outside == (true, true) || cut_off == (true, true);
    }

    fn size(&mut self, value: Option<&str>) {
        let Some(value) = value else { return };
        match number(value) {
            Some(size) if size <= 1.0 && (size == 0.0 || value.ends_with("px") || value.ends_with("pt")) => self.tiny = true,
            // A part of nothing is nothing.
            Some(_) if value.ends_with('%') || value.ends_with("em") && !value.ends_with("rem") => {}
            _ => self.tiny = false,
        }
    }
}

/// A value without blanks around it and without `!important`.
fn plain(value: &str) -> &str {
    let value = value.trim();
    value.split_once('!').map_or(value, |(value, _)| value.trim_end())
}

/// The number a value begins with.
fn number(value: &str) -> Option<f32> {
    let end = value.bytes().position(|byte| !matches!(byte, b'0'..=b'9' | b'.' | b'-')).unwrap_or(value.len());
    value[..end].parse().ok()
}

/// So far out that it is on no screen.
fn far_off(value: &str) -> bool {
    number(value).is_some_and(|number| number <= -400.0)
}

/// `#rgb`, `#rrggbb`, `rrggbb`, `rgb(r, g, b)` and the few names that hide text. Others are not known.
fn colour(text: &str) -> Option<Colour> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("white") {
        return Some([255; 3]);
    } else if text.eq_ignore_ascii_case("black") {
        return Some([0; 3]);
    } else if let Some(channels) = text.get(..4).filter(|rgb| rgb.eq_ignore_ascii_case("rgb(")).map(|_| &text[4..]) {
        let mut channels = channels.split([',', ')']).map(|channel| channel.trim().parse::<u8>().ok());
        return Some([channels.next()??, channels.next()??, channels.next()??]);
    }
    let digits = text.strip_prefix('#').unwrap_or(text);
    let digit = |place: usize| digits.get(place..=place).and_then(|digit| u8::from_str_radix(digit, 16).ok());
    match digits.len() {
        3 => Some([digit(0)? * 17, digit(1)? * 17, digit(2)? * 17]),
        6 => Some([digit(0)? * 16 + digit(1)?, digit(2)? * 16 + digit(3)?, digit(4)? * 16 + digit(5)?]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_read_as_they_are_written() {
        assert_eq!(colour(" #FFF "), Some([255; 3]));
        assert_eq!(colour("fefdfc"), Some([254, 253, 252]));
        assert_eq!(colour("rgb(1, 2,3)"), Some([1, 2, 3]));
        for unknown in ["red", "", "#", "rgb(", "rgb(1)", "#ffff", "äöü", "ääà"] {
            assert_eq!(colour(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn sizes_of_nothing_stay_nothing_until_one_is_named() {
        let mut look = Look::default();
        look.style("font-size: 0 !important");
        assert!(look.tiny);
        look.style("font-size:120%");
        assert!(look.tiny);
        look.style("font:bold 13px/1.2 serif");
        assert!(!look.tiny);
        look.style("font-size:1px");
        assert!(look.tiny);
    }
}
