//! Values of `RUN --mount`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|value: &str| {
    let _ = mica_parser::mount::Mount::parse(value);
});
