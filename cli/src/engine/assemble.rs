//! From a solved target to an image: configuration, history, times.
//!
//! New entries of the history take their times from the layers, and a layer keeps the time it was first made; so a build in which
//! every step was cached gives the same configuration, and the same digest, as the build before.

use mica_image::config::History;
use mica_image::{DiffId, ImageConfig, Timestamp};
use mica_solver::graph::{HistoryItem, Target};

/// The comment of history entries; the reference builder's, which tools look for.
const HISTORY_COMMENT: &str = "buildkit.dockerfile.v0";

/// One layer of a finished tree.
#[derive(Debug, Clone)]
pub(crate) struct AssembledLayer {
    /// The digest of its tar.
    pub diff_id: DiffId,
    /// When it was made; `None` for the base's layers.
    pub created: Option<Timestamp>,
}

/// Returns the configuration of `target` with `layers` from the base up.
///
/// `epoch` (SOURCE_DATE_EPOCH) replaces the times of what is new; the base's are left alone.
pub(crate) fn image_config(target: &Target, layers: &[AssembledLayer], epoch: Option<i64>) -> ImageConfig {
    let mut config = target.config.clone();
    config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
    let new_layers = target.history.iter().filter(|item| item.step.is_some()).count();
    let made = &layers[layers.len().saturating_sub(new_layers)..];
    let first_new = config.history.len();
    config.history.extend(entries(&target.history, made));
    let first_new = first_new + complete_base_history(&mut config, layers.len() - made.len(), first_new);
    fill_times(&mut config.history);
    if let Some(epoch) = epoch {
        let epoch = Timestamp::from_unix(epoch, 0);
        for entry in &mut config.history[first_new..] {
            entry.created = Some(epoch.clone());
        }
        config.created = Some(epoch);
    } else {
        config.created = config.history.iter().rev().find_map(|entry| entry.created.clone());
    }
    config
}

fn entries(items: &[HistoryItem], made: &[AssembledLayer]) -> Vec<History> {
    let mut made = made.iter();
    items
        .iter()
        .map(|item| History {
            created: item.step.and_then(|_| made.next()).and_then(|layer| layer.created.clone()),
            created_by: item.created_by.clone(),
            comment: HISTORY_COMMENT.to_owned(),
            empty_layer: item.step.is_none(),
            ..History::default()
        })
        .collect()
}

/// Gives base layers that have no history entry one, so that entries and layers agree in number; returns how many it gave.
fn complete_base_history(config: &mut ImageConfig, base_layers: usize, first_new: usize) -> usize {
    let told = config.history[..first_new].iter().filter(|entry| !entry.empty_layer).count();
    let missing = base_layers.saturating_sub(told);
    let unknown = History { created_by: "unknown".to_owned(), ..History::default() };
    config.history.splice(first_new..first_new, std::iter::repeat_n(unknown, missing));
    missing
}

/// Entries without a time get that of the first new layer, later ones that of the layer before them.
fn fill_times(history: &mut [History]) {
    let mut time = first_time_after_a_gap(history);
    let mut gap = false;
    for entry in history {
        if entry.created.is_some() {
            if gap {
                time.clone_from(&entry.created);
            }
        } else {
            gap = true;
            entry.created.clone_from(&time);
        }
    }
}

fn first_time_after_a_gap(history: &[History]) -> Option<Timestamp> {
    let mut time = None;
    let mut gap = false;
    for entry in history {
        match &entry.created {
            Some(created) => {
                time = Some(created.clone());
                if gap {
                    break;
                }
            }
            None => gap = true,
        }
    }
    time
}

#[cfg(test)]
mod tests {
    use super::*;
    use mica_image::Platform;
    use mica_solver::StepId;

    fn time(second: i64) -> Timestamp {
        Timestamp::from_unix(second, 0)
    }

    fn layer(number: u8, created: Option<i64>) -> AssembledLayer {
        AssembledLayer { diff_id: DiffId::from_bytes([number; 32]), created: created.map(time) }
    }

    fn target(base: &[Option<i64>], items: &[bool]) -> Target {
        let base = base.iter().map(|at| History { created: at.map(time), ..History::default() });
        let config = ImageConfig { history: base.collect(), ..ImageConfig::default() };
        let history = items
            .iter()
            .map(|layer| HistoryItem { created_by: "x".into(), step: layer.then_some(StepId(0)), line: 1 })
            .collect();
        Target { platform: Platform::host(), stage: "0".into(), step: None, config, history }
    }

    fn times(config: &ImageConfig) -> Vec<Option<i64>> {
        config
            .history
            .iter()
            .map(|entry| entry.created.as_ref().and_then(Timestamp::unix).map(|at| at.0))
            .collect()
    }

    #[test]
    fn entries_without_layer_take_the_time_of_the_first_new_layer_or_the_one_before() {
        let target = target(&[Some(1)], &[false, true, false, true]);
        let layers = [layer(1, None), layer(2, Some(20)), layer(3, Some(30))];
        let config = image_config(&target, &layers, None);
        assert_eq!(times(&config), [Some(1), Some(20), Some(20), Some(20), Some(30)]);
        assert_eq!(config.created, Some(time(30)));
        assert_eq!(config.rootfs.diff_ids.len(), 3);
    }

    #[test]
    fn only_new_entries_take_the_epoch() {
        let config =
            image_config(&target(&[Some(1)], &[true]), &[layer(1, None), layer(2, Some(20))], Some(7));
        assert_eq!(times(&config), [Some(1), Some(7)]);
        assert_eq!(config.created, Some(time(7)));
    }

    #[test]
    fn configuration_alone_keeps_the_base_time() {
        let config = image_config(&target(&[Some(5)], &[false]), &[layer(1, None)], None);
        assert_eq!(times(&config), [Some(5), Some(5)]);
    }

    #[test]
    fn base_layers_without_history_get_an_entry_each() {
        let config = image_config(&target(&[], &[true]), &[layer(1, None), layer(2, Some(9))], None);
        assert_eq!(config.history.len(), 2);
        assert_eq!(times(&config), [Some(9), Some(9)]);
    }
}
