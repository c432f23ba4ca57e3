//! Text as rules see it: one spelling for what a reader sees as one word, and short printable evidence.
//!
//! Not a language analysis: letters are folded one by one, and a reader's eye is approximated by small tables.

/// How much text one message gives to the rules, in bytes.
pub(super) const TEXT_MAX: usize = 256 << 10;
/// Evidence is never longer than this, in characters.
const EVIDENCE_MAX: usize = 60;

/// The longest beginning of `text` that has at most `max` bytes.
pub(super) fn prefix(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

/// What matched, for people: printable, without control characters or runs of blanks, at most 60 characters.
pub(super) fn evidence(found: &str) -> String {
    let mut letters = 0;
    let mut snippet = String::new();
    for word in prefix(found, EVIDENCE_MAX * 8).split(|letter: char| letter.is_whitespace() || letter.is_control()) {
        let printable = word.chars().filter(|letter| !is_invisible(*letter));
        for letter in (!word.is_empty() && letters > 0).then_some(' ').into_iter().chain(printable) {
            if letters == EVIDENCE_MAX {
                return snippet;
            }
            snippet.push(letter);
            letters += 1;
        }
    }
    snippet
}

/// Text folded for phrases: lower case, any white space as one blank, typographic apostrophes and dashes as plain ones,
/// nothing invisible, look-alike letters of other alphabets as the Latin ones they imitate. Bounded to [`TEXT_MAX`].
#[derive(Default)]
pub(super) struct Folded {
    pub text: String,
    /// Zero-width and other invisible characters between two Latin letters, where no script needs them. Soft hyphens do
    /// not count: they are honest hyphenation.
    pub invisible_in_words: usize,
    /// Words that mix Latin letters with look-alikes of another alphabet.
    pub mixed_words: usize,
    /// Letters from the mathematical and full-width blocks, which no keyboard types.
    pub styled_letters: usize,
    /// Letters struck through or crossed out, one by one: `p\u{338}ay`.
    pub overlaid_letters: usize,
    /// Characters that turn the direction of Latin text.
    pub overrides: usize,
    /// Tag characters and other code that no screen shows but a program can read, beyond what the flags of countries need.
    pub smuggled: usize,
    /// There was more text than is kept.
    pub cut: bool,
    word: Word,
    invisible_pending: usize,
}

/// What is known of the word that is being read.
#[derive(Default)]
struct Word {
    start: usize,
    latin: bool,
    lookalikes: bool,
    other: bool,
}

impl Folded {
    pub fn of(text: &str) -> Folded {
        let mut folded = Folded::default();
        folded.push(text);
        folded
    }

    /// Adds a text as words of its own.
    pub fn push(&mut self, text: &str) {
        let room = TEXT_MAX.saturating_sub(self.text.len());
        let mut rest = prefix(text, room);
        self.cut |= rest.len() < text.len();
        self.text.reserve(rest.len() + 1);
        while !rest.is_empty() {
            // Most words are plain; they are copied in one go.
            let plain = rest.bytes().position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(rest.len());
            if plain > 0 {
                self.plain_letters(&rest[..plain]);
                rest = &rest[plain..];
            }
            let mut letters = rest.chars();
            if let Some(letter) = letters.next() {
                self.push_char(letter);
                rest = letters.as_str();
            }
        }
        self.blank();
    }

    /// Latin letters without anything.
    fn plain_letters(&mut self, letters: &str) {
        if self.invisible_pending > 0 {
            let between_latin = self.text.ends_with(|before: char| before.is_ascii_lowercase());
            self.invisible_in_words += if between_latin { self.invisible_pending } else { 0 };
            self.invisible_pending = 0;
        }
        self.word.latin = true;
        self.text.extend(letters.bytes().map(|letter| char::from(letter.to_ascii_lowercase())));
    }

    fn push_char(&mut self, letter: char) {
        match letter {
            'a'..='z' => self.letter(letter),
            'A'..='Z' => self.letter(letter.to_ascii_lowercase()),
            ' '..='~' => {
                self.end_word();
                if letter != ' ' || !self.text.ends_with(' ') {
                    self.text.push(letter);
                }
                self.word.start = self.text.len();
            }
            '‘' | '’' | '´' => self.push_char('\''),
            '‐'..='―' => self.push_char('-'),
            _ if letter.is_whitespace() || letter == '\u{2800}' || letter.is_control() => self.blank(),
            '\u{ad}' => {}
            '\u{334}'..='\u{338}' | '\u{20d0}'..='\u{20dc}' | '\u{730}'..='\u{74a}' => {
                self.overlaid_letters += usize::from(self.ends_in_latin());
            }
            '\u{202a}' | '\u{202b}' | '\u{202d}' | '\u{202e}' => self.overrides += usize::from(self.ends_in_latin()),
            '\u{e0000}'..='\u{e01ef}' => self.smuggled += 1,
            _ if is_invisible(letter) => self.invisible_pending += 1,
            _ => match styled(letter) {
                Some(plain) => {
                    self.styled_letters += 1;
                    self.letter(plain);
                }
                None => letter.to_lowercase().for_each(|lower| self.letter(lower)),
            },
        }
    }

    fn ends_in_latin(&self) -> bool {
        self.text.trim_end().ends_with(|before: char| before.is_ascii_alphanumeric())
    }

    fn letter(&mut self, letter: char) {
        let between_latin = self.text.ends_with(|before: char| before.is_ascii_lowercase()) && letter.is_ascii_lowercase();
        self.invisible_in_words += if between_latin { self.invisible_pending } else { 0 };
        self.invisible_pending = 0;
        match letter {
            'a'..='z' => self.word.latin = true,
            _ if lookalike(letter).is_some() => self.word.lookalikes = true,
            _ if is_cyrillic_or_greek(letter) => self.word.other = true,
            _ => {}
        }
        self.text.push(letter);
    }

    fn blank(&mut self) {
        self.end_word();
        if !self.text.is_empty() && !self.text.ends_with(' ') {
            self.text.push(' ');
        }
        self.word.start = self.text.len();
    }

    /// A word of Latin letters and look-alikes only is read as Latin; one with other Cyrillic or Greek letters is left alone.
    fn end_word(&mut self) {
        if self.word.latin && self.word.lookalikes && !self.word.other {
            self.mixed_words += 1;
            let latin: String = self.text[self.word.start..].chars().map(|letter| lookalike(letter).unwrap_or(letter)).collect();
            self.text.truncate(self.word.start);
            self.text.push_str(&latin);
        }
        self.invisible_pending = 0;
        self.word = Word { start: self.text.len(), ..Word::default() };
    }
}

/// Characters that take part in a text but leave no mark on the screen. The joiners have honest uses (Persian, emoji);
/// rules ask for several.
pub(super) fn is_invisible(letter: char) -> bool {
    matches!(letter,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180e}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{e0000}'..='\u{e01ef}')
}

fn is_cyrillic_or_greek(letter: char) -> bool {
    matches!(letter, '\u{370}'..='\u{52f}')
}

/// The Latin letter that a lower-case Cyrillic or Greek letter imitates.
pub(super) fn lookalike(letter: char) -> Option<char> {
    Some(match letter {
        'а' | 'α' => 'a',
        'в' | 'β' => 'b',
        'с' | 'ϲ' | 'ⅽ' => 'c',
        'ԁ' | 'ⅾ' => 'd',
        'е' | 'ё' | 'ε' => 'e',
        'ɡ' | 'ց' | 'ꮐ' => 'g',
        'һ' | 'հ' => 'h',
        'і' | 'ї' | 'ι' | 'ⅰ' => 'i',
        'ј' => 'j',
        'к' | 'κ' => 'k',
        'ⅼ' | 'ӏ' => 'l',
        'м' | 'ⅿ' => 'm',
        'п' | 'η' | 'ո' => 'n',
        'о' | 'ο' | 'σ' | 'օ' => 'o',
        'р' | 'ρ' => 'p',
        'ԛ' | 'զ' => 'q',
        'г' | 'ꭱ' => 'r',
        'ѕ' => 's',
        'т' | 'τ' => 't',
        'υ' | 'ս' => 'u',
        'ν' | 'ѵ' | 'ⅴ' => 'v',
        'ѡ' | 'ω' => 'w',
        'х' | 'χ' | 'ⅹ' => 'x',
        'у' | 'γ' => 'y',
        _ => return None,
    })
}

/// The plain letter or digit behind a mathematical or full-width one.
fn styled(letter: char) -> Option<char> {
    let nth = |first: u8, distance: u32| char::from_u32(u32::from(first) + distance);
    match u32::from(letter) {
        code @ 0x1d400..=0x1d6a3 => {
            let place = (code - 0x1d400) % 52;
            nth(b'a', place % 26)
        }
        code @ 0x1d7ce..=0x1d7ff => nth(b'0', (code - 0x1d7ce) % 10),
        code @ 0xff21..=0xff3a => nth(b'a', code - 0xff21),
        code @ 0xff41..=0xff5a => nth(b'a', code - 0xff41),
        code @ 0x24b6..=0x24cf => nth(b'a', code - 0x24b6),
        code @ 0x24d0..=0x24e9 => nth(b'a', code - 0x24d0),
        // Squared and negative circled or squared; the letters of flags (0x1f1e6) are not among them.
        code @ 0x1f130..=0x1f149 => nth(b'a', code - 0x1f130),
        code @ 0x1f150..=0x1f169 => nth(b'a', code - 0x1f150),
        code @ 0x1f170..=0x1f189 => nth(b'a', code - 0x1f170),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_and_case_are_one_spelling() {
        assert_eq!(Folded::of("Verify\r\n\tYOUR \u{a0} Account ").text, "verify your account ");
        assert_eq!(Folded::of("Grüße\u{3000}ÄÖ").text, "grüße äö ");
    }

    #[test]
    fn disguised_words_are_read_as_a_reader_sees_them() {
        let folded = Folded::of("pass\u{200b}w\u{ad}ord раypal 𝐕𝐞𝐫𝐢𝐟𝐲 ｎｏｗ");
        assert_eq!(folded.text, "password paypal verify now ");
        assert_eq!((folded.invisible_in_words, folded.mixed_words, folded.styled_letters), (1, 1, 9));
    }

    #[test]
    fn other_disguises_are_counted() {
        let folded = Folded::of("p\u{338}a\u{336}y \u{1f13d}\u{1f15e}\u{1f186} photo\u{202e}gpj \u{e0041}\u{e0042}");
        assert_eq!(folded.text, "pay now photogpj ");
        assert_eq!((folded.overlaid_letters, folded.styled_letters, folded.overrides, folded.smuggled), (2, 3, 1, 2));
    }

    #[test]
    fn other_languages_are_left_alone() {
        let folded = Folded::of("Добрый день, Καλημέρα σας, नमस्ते दुनिया");
        assert_eq!((folded.invisible_in_words, folded.mixed_words, folded.styled_letters), (0, 0, 0));
        assert!(folded.text.starts_with("добрый день, καλημέρα"));
    }

    #[test]
    fn emoji_sequences_are_no_disguise() {
        assert_eq!(Folded::of("done \u{2764}\u{fe0f} \u{1f468}\u{200d}\u{1f469}").mixed_words, 0);
    }

    #[test]
    fn evidence_is_short_and_printable() {
        assert_eq!(evidence("a\r\n b\u{0}c\u{1b}[31m\u{200b}"), "a b c [31m");
        assert_eq!(evidence(&"ü".repeat(500)).chars().count(), 60);
        assert_eq!(evidence(""), "");
    }

    #[test]
    fn text_is_bounded_at_a_letter() {
        let folded = Folded::of(&"ä".repeat(TEXT_MAX));
        assert!(folded.text.len() <= TEXT_MAX + 1);
        assert_eq!(prefix("aäb", 2), "a");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_folded(text in "(a|B|z| |\\.|-|ä|И|а|о|𝐕|\u{200b}|\u{ad}|\u{338}|\u{202e}|\u{e0041}|\r\n|\u{3000}|.){0,80}") {
            let folded = Folded::of(&text);
            proptest::prop_assert!(!folded.text.contains("  "));
            proptest::prop_assert!(!folded.text.chars().any(|letter| letter.is_ascii_uppercase()));
        }
    }
}
