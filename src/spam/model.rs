//! The token model: a weight for each hashed token, fitted by `spam train`, carried by the binary.
//!
//! A file of about a megabyte: a line of text that says what it is, then one signed byte for each place of a table. Tokens share
//! places by their hash; most places are zero. It holds no words.

use std::path::Path;

use super::tokens::Tokens;

/// Places of the table, as a power of two.
const BITS: u32 = 20;
const MAGIC: &str = "feedgate token model 1";
/// Log-odds of the model alone are kept within this: one part of the evidence must not be beyond discussion.
pub(super) const LOG_ODDS_MAX: f32 = 12.0;

/// Weights of tokens.
#[derive(Clone)]
pub struct Model {
    intercept: f32,
    /// What one step of a weight is worth.
    scale: f32,
    weights: Vec<i8>,
}

impl Model {
    /// The one in the binary; a test proves that it can be read.
    pub fn builtin() -> Model {
        Model::read(include_bytes!("../../rules/tokens.model")).expect("the model in the binary was tested")
    }

    /// `tokens.model` of a directory; `None` where there is none. Blocks.
    pub fn of_directory(directory: &Path) -> Result<Option<Model>, String> {
        let path = directory.join("tokens.model");
        match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("{}: {error}", path.display())),
            Ok(bytes) => Model::read(&bytes).map(Some).map_err(|why| format!("{}: {why}", path.display())),
        }
    }

    /// Reads what [`Model::write`] wrote, or says what is wrong with it.
    pub fn read(bytes: &[u8]) -> Result<Model, String> {
        let end = memchr::memchr(b'\n', bytes).ok_or("it has no first line")?;
        let line = std::str::from_utf8(&bytes[..end]).map_err(|_| "its first line is no text")?;
        let words = line.strip_prefix(MAGIC).ok_or_else(|| format!("it does not begin with `{MAGIC}`"))?;
        let mut numbers = words.split_whitespace().map(str::parse::<f32>);
        let (Some(Ok(intercept)), Some(Ok(scale)), None) = (numbers.next(), numbers.next(), numbers.next()) else {
            return Err("its first line has not two numbers".to_owned());
        };
        let weights: Vec<i8> = bytes[end + 1..].iter().map(|byte| *byte as i8).collect();
        if weights.len() != 1 << BITS {
            return Err(format!("it has {} places instead of {}", weights.len(), 1 << BITS));
        }
        Ok(Model { intercept, scale, weights })
    }

    pub fn write(&self) -> Vec<u8> {
        let mut bytes = format!("{MAGIC} {} {}\n", self.intercept, self.scale).into_bytes();
        bytes.extend(self.weights.iter().map(|weight| *weight as u8));
        bytes
    }

    /// From weights by place.
    pub fn of(intercept: f32, weights: impl IntoIterator<Item = (u32, f32)>) -> Model {
        let weights: Vec<(u32, f32)> = weights.into_iter().collect();
        let most = weights.iter().map(|(_, weight)| weight.abs()).fold(0.0, f32::max);
        let scale = if most > 0.0 { most / 127.0 } else { 1.0 };
        let mut table = vec![0; 1 << BITS];
        for (place, weight) in weights {
            table[place as usize] = (weight / scale).round() as i8;
        }
        Model { intercept, scale, weights: table }
    }

    /// The place of a token in the table.
    pub fn place(hash: u32) -> u32 {
        hash & ((1 << BITS) - 1)
    }

    pub fn weight(&self, hash: u32) -> f32 {
        f32::from(self.weights[Model::place(hash) as usize]) * self.scale
    }

    /// Natural log-odds that a message with these tokens is spam, at a share of spam of one half.
    pub fn log_odds(&self, tokens: &Tokens) -> f32 {
        let sum: i32 = tokens.hashes().iter().map(|hash| i32::from(self.weights[Model::place(*hash) as usize])).sum();
        (self.intercept + sum as f32 * self.scale * tokens.value()).clamp(-LOG_ODDS_MAX, LOG_ODDS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_again() {
        let model = Model::of(-0.5, [(1, 2.0), (2, -1.0)]);
        let read = Model::read(&model.write()).unwrap();
        let tokens = Tokens::from_hashes(vec![1, 2, 3]);
        assert_eq!(read.log_odds(&tokens), model.log_odds(&tokens));
        assert!((read.log_odds(&tokens) - (-0.5 + 1.0 / 3_f32.sqrt())).abs() < 0.05);
    }

    #[test]
    fn a_damaged_model_is_refused() {
        let whole = Model::of(0.0, []).write();
        assert!(Model::read(&whole[..whole.len() - 1]).is_err());
        assert!(Model::read(b"something else\n").is_err());
        assert!(Model::read(b"").is_err());
    }
}
