//! Which capabilities a step keeps.

use rustix::thread::CapabilitySet;

/// What containers keep by default: enough to install packages and change owners, nothing that concerns the host.
pub(crate) const DEFAULT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::AUDIT_WRITE)
    .union(CapabilitySet::SETFCAP);

/// Returns every capability this kernel has.
pub(crate) fn all() -> CapabilitySet {
    let known = CapabilitySet::from_bits_retain((1 << 41) - 1);
    known.iter().filter(|one| rustix::thread::capability_is_in_bounding_set(*one).is_ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_set_is_the_well_known_one() {
        assert_eq!(DEFAULT.bits(), 0xa804_25fb);
        assert!(all().contains(DEFAULT));
    }
}
