//! Layer indexes as they lie in the store.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = mica_image::LayerIndex::decode(bytes);
});
