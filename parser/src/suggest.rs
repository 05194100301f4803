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

/// The number of insertions, deletions, replacements and swaps of neighbours between two words; anything too far is just that.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    if from.len().abs_diff(to.len()) >= TOO_FAR {
        return TOO_FAR;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for line in 0..from.len() {
        let mut next = vec![line + 1];
        for column in 0..to.len() {
            let replaced = row[column] + usize::from(from[line] != to[column]);
            let mut best = replaced.min(row[column + 1] + 1).min(next[column] + 1);
            if line > 0 && column > 0 && from[line] == to[column - 1] && from[line - 1] == to[column] {
                best = best.min(before[column - 1] + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
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
            ("RNU", Some("RUN")),
            ("Coppy", Some("copy")),
            ("copy", None),
            ("foobar", None),
            ("", None),
        ] {
            let found = did_you_mean(word, ["env", "from", "run", "copy"]);
            assert_eq!(found.as_deref(), expected, "{word}");
        }
        assert_eq!(did_you_mean_exact("PAHT", ["path", "PATH"]), Some("PATH"));
        assert_eq!(did_you_mean_exact("path", ["PATH"]), None);
    }
}
