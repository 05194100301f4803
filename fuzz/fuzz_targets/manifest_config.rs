//! Documents of registries and archives.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mica_image::{Document, ImageConfig, MediaType};

fuzz_target!(|input: (&str, &[u8])| {
    let _ = ImageConfig::parse(input.1);
    let _ = Document::parse(input.1, &MediaType::from(input.0));
});
