//! Lines of comma-separated values: `--mount`, `--output` and other flags.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &str| {
    let Ok(fields) = mica_parser::csv::fields(line) else { return };
    // Written out again, quoted, they are the same.
    let quoted: Vec<String> = fields.iter().map(|field| format!("\"{}\"", field.replace('"', "\"\""))).collect();
    assert_eq!(mica_parser::csv::fields(&quoted.join(",")).as_ref(), Ok(&fields));
});
