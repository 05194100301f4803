//! Expansion of words and heredoc bodies.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use mica_parser::syntax::Escape;
use mica_parser::words::{expand, expand_body, expand_words};

fuzz_target!(|input: (&str, &str)| {
    let variables = BTreeMap::from([("A".to_owned(), input.1.to_owned()), ("B".to_owned(), String::new())]);
    for escape in [Escape::Backslash, Escape::Backtick] {
        let _ = expand(input.0, escape, &variables);
        let _ = expand_words(input.0, escape, &variables);
    }
    let _ = expand_body(input.0, &variables);
});
