//! Words to numbers.

/// Where a word stood: the same word means different things in a subject and in a host name.
#[derive(Clone, Copy)]
pub(super) enum Section {
    Body = 1,
    Subject,
    AuthorName,
    AuthorLocal,
    AuthorHost,
    ReplyHost,
    FieldName,
    FieldValue,
    LinkHost,
    LinkPath,
    Shape,
}

/// Longer words are no words.
const WORD_MAX: usize = 24;

/// Gathers the hashes of tokens; or, asked for the words behind some hashes, those.
#[derive(Default)]
pub(super) struct Collector {
    pub hashes: Vec<u32>,
    /// Hashes whose words are wanted, each with its words once they were found.
    pub wanted: Vec<(u32, String)>,
}

impl Collector {
    /// A token, and how it is written for people.
    fn push(&mut self, hash: u32, written: impl FnOnce() -> String) {
        if self.wanted.is_empty() {
            self.hashes.push(hash);
        } else if let Some((_, words)) = self.wanted.iter_mut().find(|(wanted, words)| *wanted == hash && words.is_empty()) {
            *words = written();
        }
    }

    /// Words, and pairs of words up to three apart.
    pub fn text(&mut self, section: Section, text: &str, most: usize) {
        let mut before = [(0_u32, ""); 2];
        let mut count = 0;
        for_each_word(text, |word| {
            if count >= most {
                return;
            }
            count += 1;
            let hash = word_hash(section, word);
            self.push(finish(hash), || word.to_owned());
            for (distance, (earlier, earlier_word)) in before.into_iter().enumerate().filter(|(_, (earlier, _))| *earlier != 0) {
                let gap = if distance == 0 { " " } else { " … " };
                self.push(finish(joined(earlier, hash.wrapping_add(distance as u32 * 77))), || {
                    format!("{earlier_word}{gap}{word}")
                });
            }
            before = [(hash, word), before[0]];
        });
    }

    pub fn word(&mut self, section: Section, word: &str) {
        self.push(finish(word_hash(section, word)), || word.to_owned());
    }

    /// Words of a value, each with the name it belongs to.
    pub fn pair_text(&mut self, section: Section, name: &str, text: &str, most: usize) {
        let named = word_hash(section, name);
        let mut count = 0;
        for_each_word(text, |word| {
            count += 1;
            if count <= most {
                self.push(finish(joined(named, word_hash(section, word))), || format!("{name}:{word}"));
            }
        });
    }

    /// A host: its labels, its registered part, its top level.
    pub fn host(&mut self, section: Section, host: &str) {
        if host.is_empty() {
            return;
        }
        let organisation = super::super::facts::organisation(host);
        self.word(section, organisation);
        if let Some((_, top)) = host.rsplit_once('.') {
            self.pair_text(section, "tld", top, 1);
        }
        self.text(section, organisation.split('.').next().unwrap_or_default(), 4);
    }
}

fn for_each_word<'t>(text: &'t str, mut each: impl FnMut(&'t str)) {
    for run in text.split(|letter: char| {
        !(letter.is_alphanumeric() || letter == '\'' || letter == '$' || letter == '€' || letter == '%' || letter == '!')
    }) {
        if run.is_empty() {
            continue;
        }
        if run.is_ascii() {
            if run.bytes().all(|b| b.is_ascii_digit()) {
                each(["#0", "#1", "#2", "#3", "#4", "#5", "#6", "#7"][run.len().min(7)]);
            } else if run.len() <= WORD_MAX {
                each(run);
            } else {
                each("<long>");
            }
        } else if run.chars().next().is_some_and(is_unspaced) {
            // no blanks between words: pairs of letters instead
            let mut letters = run.char_indices().map(|(at, _)| at).collect::<Vec<_>>();
            letters.push(run.len());
            for pair in letters.windows(3).take(400) {
                each(&run[pair[0]..pair[2]]);
            }
        } else if run.len() <= WORD_MAX * 2 {
            each(run);
        }
    }
}

/// Scripts that part no words.
fn is_unspaced(letter: char) -> bool {
    matches!(letter, '\u{e00}'..='\u{eff}' | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}')
}

fn word_hash(section: Section, word: &str) -> u32 {
    word.bytes().fold(0x811c_9dc5 ^ (section as u32).wrapping_mul(0x85eb_ca6b), |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

fn joined(first: u32, second: u32) -> u32 {
    first.rotate_left(11).wrapping_mul(0x9e37_79b1) ^ second
}

fn finish(hash: u32) -> u32 {
    let hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    let hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}
