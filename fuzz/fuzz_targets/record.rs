//! What the store keeps of steps, images and names, behind the checksum that guards it: whatever is read is written the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mica_cache::{CacheRecord, Download, ImageRecord, Resolved, Version};
use serde::Serialize;
use serde::de::DeserializeOwned;

fuzz_target!(|json: &[u8]| {
    read_again::<CacheRecord>(json);
    read_again::<ImageRecord>(json);
    read_again::<Version>(json);
    read_again::<Resolved>(json);
    read_again::<Download>(json);
});

fn read_again<T: Serialize + DeserializeOwned>(json: &[u8]) {
    let Ok(value) = serde_json::from_slice::<T>(json) else { return };
    let written = serde_json::to_vec(&value).expect("what was read can be written");
    let again: T = serde_json::from_slice(&written).expect("what was written can be read");
    assert_eq!(serde_json::to_vec(&again).expect("as before"), written);
}
