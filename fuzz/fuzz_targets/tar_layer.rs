//! Archives as layers: ADD, pulled and loaded layers. What is read is encoded and read back, and keeps its name.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mica_image::LayerIndex;
use mica_image::compress::Decoder;
use mica_image::tar::{IndexOnly, Removals, TarLimits, read_layer};

fuzz_target!(|input: (bool, &[u8])| {
    let removals = if input.0 { Removals::Marked } else { Removals::Named };
    // Small enough that a bomb is refused before the fuzzer's own limits are met.
    let limits = TarLimits { removals, bytes: 1 << 26, entries: 10_000, ..TarLimits::default() };
    let Ok(decoder) = Decoder::new(input.1) else { return };
    let Ok(index) = read_layer(decoder, &limits, &mut IndexOnly) else { return };
    let again = LayerIndex::decode(&index.encode()).expect("an index that was read can be read back");
    assert_eq!(again.layer_id(), index.layer_id());
});
