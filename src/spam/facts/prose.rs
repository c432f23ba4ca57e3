//! How a text is written, whatever it says: capitals, marks, letters spaced out, words that are none.
//!
//! Counts over all visible text of a message, gathered in one pass over its bytes. What is a word is judged for the Latin
//! alphabet only, by pairs of letters that stand in no word of some thirty languages; other scripts are counted, not judged.

use crate::spam::text::prefix;

/// So many empty lines push what follows off the screen.
const GAP_LINES: usize = 30;
/// A word in capitals has at least so many letters.
const SHOUTED_MIN: usize = 4;
/// Shorter and longer words are not looked at: abbreviations, keys.
const JUDGED: std::ops::RangeInclusive<usize> = 6..=18;

/// Words kept as evidence.
const EXAMPLES_MAX: usize = 4;

/// What was counted.
#[derive(Default)]
pub(in crate::spam) struct Prose {
    /// Letters and digits of every script.
    pub letters: usize,
    pub words: usize,
    pub digits: usize,
    /// Words of four letters and more in capitals, and such words in any case.
    pub shouted: usize,
    pub could_shout: usize,
    pub exclamations: usize,
    /// `!!!`, `$$$`, `???`.
    pub repeated_marks: usize,
    /// Words that nobody could say.
    pub unpronounceable: usize,
    /// The first of them, each once.
    pub examples: Vec<String>,
    /// Words of a length at which that can be told.
    pub judged: usize,
    /// The longest run of single letters with blanks between.
    pub spaced: usize,
    /// `v.i.a.g.r.a`: words with the same mark after every letter.
    pub dotted: usize,
    /// Lines of one letter: a text cut into columns.
    pub sliced_lines: usize,
    /// The longest run of lower-case words without a word of grammar or a mark between them.
    pub salad: usize,
    /// Bytes of text below a gap of many empty lines.
    pub below_gap: usize,
    pub cyrillic: usize,
    pub latin: usize,
    /// The last line with a letter, when it is one word.
    pub last_line: String,
}

/// What is known while a text is read.
#[derive(Default)]
struct Run {
    spaced: usize,
    salad: usize,
}

impl Prose {
    /// Text whose line ends mean something.
    pub fn add(&mut self, text: &str) {
        self.add_html(text);
        let (mut empty, mut below) = (0, 0);
        for line in text.lines() {
            let is_empty = !line.bytes().any(|byte| byte.is_ascii_alphanumeric() || !byte.is_ascii());
            below += if !is_empty && (below > 0 || empty >= GAP_LINES) { line.len() } else { 0 };
            empty = if is_empty { empty + 1 } else { 0 };
        }
        self.below_gap += below;
    }

    /// Text of HTML, whose line ends mean nothing.
    pub fn add_html(&mut self, text: &str) {
        let mut run = Run::default();
        let mut last = "";
        for line in text.lines() {
            let before = (self.letters, self.words);
            line.split_ascii_whitespace().for_each(|token| self.token(token, &mut run));
            let letters = self.letters - before.0;
            self.sliced_lines += usize::from(letters == 1 && self.words - before.1 == 1);
            last = if letters > 0 { line.trim() } else { last };
        }
        if !last.is_empty() {
            self.last_line.clear();
            self.last_line.push_str(if last.contains(char::is_whitespace) { "" } else { prefix(last, 64) });
        }
    }

    fn token(&mut self, token: &str, run: &mut Run) {
        let bytes = token.as_bytes();
        let mut count = [0usize; 6];
        for &byte in bytes {
            count[CLASS[usize::from(byte)] as usize] += 1;
        }
        let [upper, lower, digits, exclamations, marks, foreign] = count;
        self.latin += upper + lower;
        self.digits += digits;
        self.exclamations += exclamations;
        self.letters += upper + lower + digits + if foreign > 0 { self.foreign(token) } else { 0 };
        self.words += usize::from(upper + lower + foreign > 0);
        self.repeated_marks +=
            usize::from(exclamations + marks >= 3 && ["!!!", "$$$", "???"].iter().any(|run| token.contains(run)));
        if foreign == 0 {
            self.ascii(token, upper, lower, run);
        } else {
            (run.spaced, run.salad) = (0, 0);
        }
    }

    /// Letters and digits beyond ASCII.
    fn foreign(&mut self, token: &str) -> usize {
        let letters = token.chars().filter(|letter| !letter.is_ascii());
        letters.fold(0, |sum, letter| {
            self.cyrillic += usize::from(matches!(letter, '\u{400}'..='\u{52f}'));
            sum + usize::from(letter.is_alphanumeric())
        })
    }

    fn ascii(&mut self, token: &str, upper: usize, lower: usize, run: &mut Run) {
        let letters = upper + lower;
        if letters == 1 && token.len() == 1 {
            run.spaced += 1;
            self.spaced = self.spaced.max(run.spaced);
        } else {
            run.spaced = 0;
        }
        let word = token.trim_matches(|mark: char| mark.is_ascii_punctuation());
        let whole = word.len() == letters;
        if whole && letters >= SHOUTED_MIN {
            self.could_shout += 1;
            self.shouted += usize::from(lower == 0);
        }
        // Capitals within are names of programs.
        let plainly = upper == 0 || upper == 1 && word.starts_with(|first: char| first.is_ascii_uppercase());
        if whole && JUDGED.contains(&letters) && plainly {
            self.judged += 1;
            if impossible_pairs(word) >= 2 {
                self.unpronounceable += 1;
                if self.examples.len() < EXAMPLES_MAX && !self.examples.iter().any(|known| known.eq_ignore_ascii_case(word)) {
                    self.examples.push(word.to_owned());
                }
            }
        }
        self.dotted += usize::from(token.len() > 8 && is_dotted(token.as_bytes()));
        let plain = token.len() == lower && lower >= 2 && !is_grammar(token);
        run.salad = if plain { run.salad + 1 } else { 0 };
        self.salad = self.salad.max(run.salad);
    }
}

/// `d.i.s.c.o.u.n.t`: five letters or more, each followed by the same mark.
fn is_dotted(token: &[u8]) -> bool {
    let mark = token[1];
    mark.is_ascii_punctuation()
        && token.chunks_exact(2).all(|pair| pair[0].is_ascii_alphabetic() && pair[1] == mark)
        && token.last().is_some_and(|last| last.is_ascii_alphabetic() || *last == mark)
}

/// Pairs of letters of which words have none, or one where two words meet.
fn impossible_pairs(word: &str) -> usize {
    let place = |letter: u8| usize::from(letter.to_ascii_lowercase() - b'a');
    word.as_bytes().windows(2).filter(|pair| IMPOSSIBLE[place(pair[0])] >> place(pair[1]) & 1 == 1).count()
}

/// Words that hold sentences together in the languages that are written without accents for long stretches, in rising order.
const GRAMMAR: [&str; 168] = [
    "aan", "about", "al", "all", "an", "and", "ao", "are", "as", "at", "att", "au", "auch", "auf", "aus", "av", "avec", "az",
    "be", "been", "bei", "bir", "bu", "but", "by", "can", "ce", "che", "como", "con", "da", "dan", "dans", "das", "dat", "del",
    "della", "dem", "den", "der", "des", "det", "di", "die", "do", "dos", "du", "een", "egy", "ei", "ein", "eine", "el", "en",
    "es", "est", "et", "ett", "for", "from", "had", "has", "have", "he", "her", "het", "his", "ich", "if", "il", "im", "in",
    "ini", "is", "ist", "it", "ja", "je", "jest", "la", "las", "le", "les", "lo", "los", "mais", "me", "met", "mit", "my", "na",
    "nach", "nicht", "nie", "niet", "no", "non", "not", "nous", "oder", "of", "og", "on", "ook", "op", "or", "os", "our", "out",
    "par", "para", "pas", "per", "por", "pour", "que", "qui", "se", "she", "si", "sich", "sie", "so", "som", "sono", "su", "sur",
    "te", "than", "that", "the", "their", "them", "there", "they", "this", "till", "to", "uma", "un", "una", "und", "une", "up",
    "van", "ve", "von", "voor", "vous", "was", "we", "werden", "were", "what", "when", "which", "who", "will", "wir", "wird",
    "with", "would", "yang", "you", "your", "ze", "zijn", "zu",
];

fn is_grammar(word: &str) -> bool {
    GRAMMAR.binary_search(&word).is_ok()
}

/// Upper case, lower case, digits, exclamation marks, other marks, beyond ASCII.
const CLASS: [u8; 256] = {
    let mut class = [4; 256];
    let mut byte = 0;
    while byte < 256 {
        class[byte] = match byte as u8 {
            b'A'..=b'Z' => 0,
            b'a'..=b'z' => 1,
            b'0'..=b'9' => 2,
            b'!' => 3,
            0..=0x7f => 4,
            _ => 5,
        };
        byte += 1;
    }
    class
};

/// For every letter those that follow it in at most a few of the 12,000 commonest words of any of thirty languages that are
/// written in Latin letters.
const IMPOSSIBLE: [u32; 26] = {
    let follow: [&[u8]; 26] = [
        b"",
        b"fpqx",
        b"bdfgmpwx",
        b"x",
        b"",
        b"cpqx",
        b"qx",
        b"pqx",
        b"",
        b"qx",
        b"qx",
        b"qx",
        b"qx",
        b"x",
        b"",
        b"qx",
        b"abcdefghijklmnopqrstvwxyz",
        b"",
        b"x",
        b"q",
        b"q",
        b"qwx",
        b"fgjmqvwx",
        b"bdfgjkmnqrsvwxyz",
        b"qx",
        b"fx",
    ];
    let mut pairs = [0; 26];
    let mut letter = 0;
    while letter < 26 {
        let mut at = 0;
        while at < follow[letter].len() {
            pairs[letter] |= 1 << (follow[letter][at] - b'a');
            at += 1;
        }
        letter += 1;
    }
    pairs
};

/// How much of one text's words another shares: a small filter of hashed words, not the words themselves.
pub(in crate::spam) struct Words {
    seen: Box<[u64; WORDS_BITS / 64]>,
    /// Words put in.
    pub count: usize,
}

const WORDS_BITS: usize = 1 << 15;
/// Words compared.
const COMPARED_MAX: usize = 200;

impl Words {
    pub fn of(text: &str) -> Words {
        let mut words = Words { seen: Box::new([0; WORDS_BITS / 64]), count: 0 };
        for hash in hashes(text) {
            words.seen[hash / 64] |= 1 << (hash % 64);
            words.count += 1;
        }
        words
    }

    /// Of the first words of another text: how many there are, and how many of them are here.
    pub fn shared_with(&self, text: &str) -> (usize, usize) {
        hashes(text)
            .take(COMPARED_MAX)
            .fold((0, 0), |(all, shared), hash| (all + 1, shared + usize::from(self.seen[hash / 64] >> (hash % 64) & 1 == 1)))
    }
}

/// Of words of four letters and more: short ones are in every text.
fn hashes(text: &str) -> impl Iterator<Item = usize> + '_ {
    let words = text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| word.len() >= 4);
    words.map(|word| {
        let hash = word.bytes().fold(0xcbf2_9ce4_u32, |hash, byte| (hash ^ u32::from(byte | 0x20)).wrapping_mul(0x0100_0193));
        (hash >> 8) as usize % WORDS_BITS
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_grammar_are_sorted_and_found() {
        assert!(GRAMMAR.is_sorted());
        assert!(is_grammar("the") && is_grammar("und") && !is_grammar("offer") && !is_grammar(""));
    }

    fn of(text: &str) -> Prose {
        let mut prose = Prose::default();
        prose.add(text);
        prose
    }

    #[test]
    fn letters_and_words_are_counted() {
        let prose = of("Hello WORLD, 42 Grüße!\r\n\r\nпривет");
        assert_eq!((prose.letters, prose.words, prose.digits, prose.exclamations, prose.cyrillic), (23, 4, 2, 1, 6));
        assert_eq!((prose.shouted, prose.could_shout), (1, 2));
    }

    #[test]
    fn words_that_nobody_could_say_are_told_from_those_of_any_language() {
        let text = "xqzvbk jqwxrt fkvqpw";
        assert_eq!(of(text).unpronounceable, 3);
        assert_eq!(of(text).examples, ["xqzvbk", "jqwxrt", "fkvqpw"]);
        for honest in [
            "Rechtsschutzversicherung Angstschweiss wöchentlich Quarkspeise Exportzwang",
            "strength rhythm background knowledge wxWidgets nginx systemctl Makefile fsync",
            "szczegółowy bezwzględny przedsiębiorstwo chrząszcz źdźbło mężczyzna",
            "yhteyshenkilö keskusteluryhmä hyväksytty zeeuwsvlaanderen schoonmaakbedrijf",
            "çözümleri değiştirmek elérhetőség szükséges čtvrtek zmrzlina",
        ] {
            assert_eq!(of(honest).unpronounceable, 0, "{honest}: {:?}", of(honest).examples);
        }
    }

    #[test]
    fn letters_kept_apart_are_seen() {
        assert_eq!(of("buy v i a g r a now").spaced, 6);
        assert_eq!(of("d.i.s.c.o.u.n.t and s-a-v-i-n-g-s").dotted, 2);
        assert_eq!(of("e.g. U.S.A. www.example.com a-b-c").dotted, 0);
        assert_eq!(of("b\nu\ny\n\nnow").sliced_lines, 3);
    }

    #[test]
    fn words_without_grammar_are_a_salad() {
        assert_eq!(of("copper lantern rivet gallop thistle prudent cargo").salad, 7);
        assert_eq!(of("copper lantern of the rivet, gallop thistle").salad, 2);
    }

    #[test]
    fn text_below_the_screen_is_counted() {
        assert_eq!(of(&format!("hello{}below", "\n \n".repeat(20))).below_gap, 5);
        assert_eq!(of("hello\n\n\nbelow").below_gap, 0);
    }

    #[test]
    fn texts_share_words() {
        let words = Words::of("The quick brown fox jumps over the lazy dog");
        assert_eq!(words.shared_with("QUICK and brown, or green"), (3, 2));
        assert_eq!(words.count, 5);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_counted(text in "(a|X|q|9| |\\.|!|\\$|\n|ä|И|.){0,120}") {
            let prose = of(&text);
            proptest::prop_assert!(prose.letters <= text.len() && prose.words <= prose.letters.max(text.len()));
        }
    }
}
