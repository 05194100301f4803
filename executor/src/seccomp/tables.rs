//! Numbers of system calls, one table for each architecture a program on this machine may have.

/// An architecture as filters see it.
pub(super) struct Architecture {
    /// Its number in `seccomp_data`.
    pub(super) audit: u32,
    /// Calls that the profile allows on this architecture only.
    pub(super) also_allowed: &'static [&'static str],
    table: &'static str,
}

impl Architecture {
    /// Returns all calls in ascending order.
    pub(super) fn calls(&self) -> impl Iterator<Item = (u32, &'static str)> {
        self.table.lines().map(|line| {
            let (number, name) = line.split_once(' ').expect("each line of a table is a number and a name");
            (number.parse().expect("the tables hold decimal numbers"), name)
        })
    }
}

const X86_64: Architecture = Architecture {
    audit: 0xc000_003e,
    also_allowed: &["arch_prctl", "modify_ldt"],
    table: include_str!("syscalls/x86_64.txt"),
};

const I386: Architecture = Architecture {
    audit: 0x4000_0003,
    also_allowed: &["modify_ldt"],
    table: include_str!("syscalls/i386.txt"),
};

const AARCH64: Architecture =
    Architecture { audit: 0xc000_00b7, also_allowed: &[], table: include_str!("syscalls/aarch64.txt") };

/// The architectures of programs on this machine, the most common first.
pub(super) const ARCHITECTURES: &[Architecture] =
    if cfg!(target_arch = "aarch64") { &[AARCH64] } else { &[X86_64, I386] };

#[cfg(test)]
pub(super) const ALL: &[Architecture] = &[X86_64, I386, AARCH64];
