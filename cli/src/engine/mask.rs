//! Keeps the values of secrets out of logs.
//!
//! Works on a stream: a value is found however the command's output was cut into pieces. Values shorter than
//! [`SHORTEST_MASKED`] bytes are let through, for they would turn up by chance.

/// Values shorter than this are not looked for.
pub(crate) const SHORTEST_MASKED: usize = 8;

const MASK: &[u8] = b"***";

/// Replaces secret values in one output stream.
#[derive(Debug, Clone, Default)]
pub(crate) struct Masker {
    /// Longest first, so that a value containing another is replaced whole.
    values: Vec<Vec<u8>>,
    held: Vec<u8>,
}

impl Masker {
    /// Returns a masker of `values`; each is looked for as a whole and, when it has several lines, line by line.
    pub(crate) fn new<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut wanted: Vec<Vec<u8>> = Vec::new();
        for value in values {
            wanted.push(value.trim_ascii_end().to_vec());
            wanted.extend(value.split(|byte| *byte == b'\n').map(|line| line.trim_ascii_end().to_vec()));
        }
        wanted.retain(|value| value.len() >= SHORTEST_MASKED);
        wanted.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        wanted.dedup();
        Self { values: wanted, held: Vec::new() }
    }

    /// Returns what is looked for.
    pub(crate) fn values(&self) -> &[Vec<u8>] {
        &self.values
    }

    /// Takes the next piece of output and returns what may be shown of all so far.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        if self.values.is_empty() {
            return piece.to_vec();
        }
        self.held.extend_from_slice(piece);
        self.release(false)
    }

    /// Returns what was held back when the stream ends.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        self.release(true)
    }

    fn release(&mut self, ended: bool) -> Vec<u8> {
        let mut shown = Vec::with_capacity(self.held.len());
        let mut at = 0;
        while at < self.held.len() {
            let rest = &self.held[at..];
            if let Some(value) = self.values.iter().find(|value| rest.starts_with(value)) {
                shown.extend_from_slice(MASK);
                at += value.len();
            } else if !ended && self.values.iter().any(|value| value.starts_with(rest)) {
                break;
            } else {
                shown.push(rest[0]);
                at += 1;
            }
        }
        self.held.drain(..at);
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(values: &[&str], pieces: &[&str]) -> String {
        let mut masker = Masker::new(values.iter().map(|value| value.as_bytes()));
        let mut shown = Vec::new();
        for piece in pieces {
            shown.extend(masker.push(piece.as_bytes()));
        }
        shown.extend(masker.finish());
        String::from_utf8(shown).unwrap()
    }

    #[test]
    fn values_are_replaced_however_the_output_is_cut() {
        for pieces in [
            &["a hunter2-hunter2 b"][..],
            &["a hun", "ter2-hunter", "2 b"],
            &["a h", "u", "nter2-hunter2", " b"],
        ] {
            assert_eq!(masked(&["hunter2-hunter2"], pieces), "a *** b");
        }
    }

    #[test]
    fn a_beginning_that_comes_to_nothing_is_shown() {
        assert_eq!(masked(&["hunter2-hunter2"], &["hunter2-", "hunting"]), "hunter2-hunting");
        assert_eq!(masked(&["hunter2-hunter2"], &["hunter2-"]), "hunter2-");
    }

    #[test]
    fn short_values_are_let_through_and_long_ones_win() {
        assert_eq!(masked(&["abc"], &["abc"]), "abc");
        assert_eq!(masked(&["12345678", "1234567890"], &["1234567890"]), "***");
    }

    #[test]
    fn lines_of_a_key_are_masked_one_by_one() {
        assert_eq!(
            masked(&["first-line-of-key\nsecond-line-of-key\n"], &["x second-line-of-key y"]),
            "x *** y"
        );
    }
}
