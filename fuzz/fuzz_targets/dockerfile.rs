//! Text to a tree: no panic, spans inside the text, lint and the debug form of anything.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let parsed = mica_parser::parse(text);
    for problem in &parsed.diagnostics {
        assert!(problem.primary.span.end as usize <= text.len());
    }
    let _ = mica_parser::lint::check(&parsed.dockerfile, &Default::default());
    let _ = mica_parser::lint::check_more(&parsed.dockerfile, &Default::default());
    let _ = mica_parser::debug::describe("Dockerfile", text);
});
