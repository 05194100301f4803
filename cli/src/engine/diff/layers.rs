//! The layers of two images side by side: those of the same instruction stand in one row.

use crate::engine::history::HistoryLine;

/// One row: a layer of one image, of the other, or of both.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct LayerPair {
    /// The line of the Dockerfile.
    pub line: Option<u32>,
    /// The instruction.
    pub instruction: String,
    /// Bytes of the files in the first image's layer.
    pub before: Option<u64>,
    /// Bytes of the files in the second image's layer.
    pub after: Option<u64>,
    /// Whether it is the same layer.
    pub same: bool,
}

/// Pairs the layers of two histories by their instructions, as far as their order allows.
pub(super) fn pair(before: &[HistoryLine], after: &[HistoryLine]) -> Vec<LayerPair> {
    let with_layer = |history: &[HistoryLine]| -> Vec<HistoryLine> {
        history.iter().filter(|line| line.layer.is_some()).cloned().collect()
    };
    let (old, new) = (with_layer(before), with_layer(after));
    let lengths = common_lengths(&old, &new);
    let (mut a, mut b) = (0, 0);
    let mut pairs = Vec::new();
    while a < old.len() || b < new.len() {
        let both = a < old.len() && b < new.len();
        if both && old[a].instruction == new[b].instruction {
            pairs.push(row(Some(&old[a]), Some(&new[b])));
            (a, b) = (a + 1, b + 1);
        } else if b == new.len() || (both && lengths[a + 1][b] >= lengths[a][b + 1]) {
            pairs.push(row(Some(&old[a]), None));
            a += 1;
        } else {
            pairs.push(row(None, Some(&new[b])));
            b += 1;
        }
    }
    pairs
}

/// For each pair of positions: how many instructions the rests have in common, in order.
fn common_lengths(old: &[HistoryLine], new: &[HistoryLine]) -> Vec<Vec<usize>> {
    let mut lengths = vec![vec![0; new.len() + 1]; old.len() + 1];
    for a in (0..old.len()).rev() {
        for b in (0..new.len()).rev() {
            lengths[a][b] = if old[a].instruction == new[b].instruction {
                lengths[a + 1][b + 1] + 1
            } else {
                lengths[a + 1][b].max(lengths[a][b + 1])
            };
        }
    }
    lengths
}

fn row(old: Option<&HistoryLine>, new: Option<&HistoryLine>) -> LayerPair {
    let told = new.or(old);
    LayerPair {
        line: told.and_then(|line| line.line),
        instruction: told.map(|line| line.instruction.clone()).unwrap_or_default(),
        before: old.and_then(|line| line.size),
        after: new.and_then(|line| line.size),
        same: matches!((old, new), (Some(old), Some(new)) if old.layer == new.layer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mica_image::LayerId;

    fn lines(instructions: &[(&str, u8)]) -> Vec<HistoryLine> {
        let line = |(instruction, layer): &(&str, u8)| HistoryLine {
            line: None,
            instruction: (*instruction).to_owned(),
            created: None,
            layer: Some(LayerId::from_bytes([*layer; 32])),
            size: Some(u64::from(*layer)),
        };
        instructions.iter().map(line).collect()
    }

    #[test]
    fn instructions_are_paired_around_what_was_inserted() {
        let pairs = pair(
            &lines(&[("base", 1), ("copy", 2), ("run", 3)]),
            &lines(&[("base", 1), ("new", 9), ("copy", 4)]),
        );
        let told: Vec<_> = pairs
            .iter()
            .map(|pair| (pair.instruction.as_str(), pair.before, pair.after, pair.same))
            .collect();
        assert_eq!(
            told,
            [
                ("base", Some(1), Some(1), true),
                ("new", None, Some(9), false),
                ("copy", Some(2), Some(4), false),
                ("run", Some(3), None, false),
            ]
        );
    }
}
