//! “Did you mean”: the nearest of some words.

/// Words this far apart are no slip of the finger.
const TOO_FAR: usize = 3;

/// Returns the candidate nearest to `word` that is at most two edits away, with the casing of `word` when that is uniform.
///
/// Letters are compared without case. A word that is a candidate already has no suggestion: the mistake lies elsewhere.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let lower = word.to_lowercase();
    let candidates = candidates.into_iter().map(|candidate| (candidate.to_lowercase(), candidate));
    nearest(&lower, candidates).map(|candidate| match_case(candidate, word))
}

/// Returns the candidate nearest to `word` where case matters, as in names of variables.
pub fn did_you_mean_exact<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    nearest(word, candidates.into_iter().map(|candidate| (candidate.to_owned(), candidate)))
}

fn nearest<'a>(word: &str, candidates: impl Iterator<Item = (String, &'a str)>) -> Option<&'a str> {
    let mut nearest: Option<(usize, &str)> = None;
    for (comparable, candidate) in candidates {
        let distance = distance(word, &comparable);
        if distance == 0 {
            return None;
        }
        if distance < nearest.map_or(TOO_FAR, |(nearest, _)| nearest) {
            nearest = Some((distance, candidate));
        }
    }
    nearest.map(|(_, candidate)| candidate)
}

fn match_case(candidate: &str, word: &str) -> String {
    if word == word.to_lowercase() {
        candidate.to_lowercase()
    } else if word == word.to_uppercase() {
        candidate.to_uppercase()
    } else {
        candidate.to_owned()
    }
}

/// The number of insertions, deletions and replacements between two words; anything too far is just that.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    if from.len().abs_diff(to.len()) >= TOO_FAR {
        return TOO_FAR;
    }
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, left) in from.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], line + 1);
        for (column, right) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(left != right);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found() {
        for (word, expected) in [
            ("FORM", Some("FROM")),
            ("rnu", Some("run")),
            ("Coppy", Some("copy")),
            ("copy", None),
            ("foobar", None),
            ("", None),
        ] {
            let found = did_you_mean(word, ["from", "run", "copy"]);
            assert_eq!(found.as_deref(), expected, "{word}");
        }
        assert_eq!(did_you_mean_exact("PAHT", ["path", "PATH"]), Some("PATH"));
        assert_eq!(did_you_mean_exact("path", ["PATH"]), None);
    }
}
