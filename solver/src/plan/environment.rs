//! The variables in effect at one point of a stage: the image's environment, then ENV and ARG as they were met.

use mica_parser::words::Variables;

/// Variables in order. Setting one again moves it to the end, as in the reference builder, so the order a command sees is the order
/// of the last assignments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Environment {
    pairs: Vec<(String, String)>,
}

impl Environment {
    /// Sets a variable.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        self.pairs.push((name.to_owned(), value.to_owned()));
    }

    /// Takes a variable away.
    pub(super) fn remove(&mut self, name: &str) {
        self.pairs.retain(|(known, _)| known != name);
    }

    /// Returns the names in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.pairs.iter().map(|(name, _)| name.as_str())
    }

    /// Returns the variables in order.
    pub(super) fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }
}

impl Variables for Environment {
    fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Splits `name=value`; without `=` the value is empty.
pub(super) fn split_pair(pair: &str) -> (&str, &str) {
    pair.split_once('=').unwrap_or((pair, ""))
}

/// Sets a variable of an image configuration in place, so that its position stays.
pub(super) fn set_in_list(list: &mut Vec<String>, name: &str, value: &str) {
    let pair = format!("{name}={value}");
    match list.iter_mut().find(|known| split_pair(known).0 == name) {
        Some(known) => *known = pair,
        None => list.push(pair),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_again_moves_to_the_end_but_keeps_the_place_in_a_config() {
        let mut environment = Environment::default();
        for (name, value) in [("A", "1"), ("B", "2"), ("A", "3")] {
            environment.set(name, value);
        }
        assert_eq!(environment.names().collect::<Vec<_>>(), ["B", "A"]);
        assert_eq!(environment.get("A"), Some("3"));
        let mut list = vec!["A=1".to_owned(), "B=2".to_owned()];
        set_in_list(&mut list, "A", "3");
        set_in_list(&mut list, "C", "");
        assert_eq!(list, ["A=3", "B=2", "C="]);
    }
}
