//! Names of images and platforms.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(reference) = mica_image::Reference::parse(text) {
        assert_eq!(mica_image::Reference::parse(&reference.to_string()).as_ref(), Ok(&reference));
    }
});
