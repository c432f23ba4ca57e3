//! "Did you mean": the known word that a mistyped one probably stands for.

/// Nothing longer is a mistyped key; also keeps the work for one comparison small.
const WORD_MAX: usize = 40;

/// The closest of the known words, when it is close enough to be meant.
pub fn closest<'w>(written: &str, known: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    if written.len() > WORD_MAX {
        return None;
    }
    // A third of the letters may be wrong; in words of up to five letters only one.
    let wrong_max = (written.chars().count() / 3).clamp(1, 3);
    let distances = known.into_iter().map(|word| (distance(written, word), word));
    distances.filter(|(wrong, _)| *wrong <= wrong_max).min().map(|(_, word)| word)
}

/// Letters to add, drop, change or swap with their neighbour (optimal string alignment), without regard to case.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.to_lowercase().chars().collect();
    let right: Vec<char> = right.to_lowercase().chars().collect();
    let mut before: Vec<usize> = vec![0; right.len() + 1];
    let mut above: Vec<usize> = (0..=right.len()).collect();
    for row in 1..=left.len() {
        let mut current = vec![row; right.len() + 1];
        for column in 1..=right.len() {
            let changed = above[column - 1] + usize::from(left[row - 1] != right[column - 1]);
            current[column] = changed.min(above[column] + 1).min(current[column - 1] + 1);
            let swapped = row > 1 && column > 1 && left[row - 1] == right[column - 2] && left[row - 2] == right[column - 1];
            if swapped {
                current[column] = current[column].min(before[column - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, current);
    }
    above[right.len()]
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn a_typing_mistake_finds_its_word_and_another_word_does_not() {
        let known = ["listen", "size_max", "tls", "verdict_wait"];
        assert_eq!(closest("listne", known), Some("listen"));
        assert_eq!(closest("Listen", known), Some("listen"));
        assert_eq!(closest("sizemax", known), Some("size_max"));
        assert_eq!(closest("verdict_wiat", known), Some("verdict_wait"));
        assert_eq!(closest("tsl", known), Some("tls"));
        assert_eq!(closest("banner", known), None);
        assert_eq!(closest("", known), None);
        assert_eq!(closest(&"x".repeat(100_000), known), None);
    }
}
