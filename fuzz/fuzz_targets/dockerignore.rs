//! Ignore files, and decisions by them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mica_parser::dockerignore::Patterns;

fuzz_target!(|input: (&[u8], &[u8])| {
    if let Ok(patterns) = Patterns::parse(input.0) {
        let _ = patterns.decide(input.1, None);
        let _ = patterns.could_match_below(input.1);
    }
});
