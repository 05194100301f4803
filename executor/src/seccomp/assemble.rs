//! From intervals of numbers to the kernel's filter instructions.
//!
//! Neighbours with the same verdict are one interval; a binary search over their bounds decides in seven or eight
//! comparisons. An instruction is kept as one word: code, jump if true, jump if false, operand, from the top down.

const LOAD_WORD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_AT_LEAST: u16 = 0x35;
const JUMP_IF_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

const RETURN_ALLOW: u32 = 0x7fff_0000;
const RETURN_ERRNO: u32 = 0x0005_0000;
const RETURN_KILL_PROCESS: u32 = 0x8000_0000;

const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCHITECTURE: u32 = 4;
/// The low half of the first argument. The kernel itself looks at no more of those checked here.
const OFFSET_ARGUMENT: u32 = 16;

/// CLONE_NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET and NEWNS.
const NAMESPACE_FLAGS: u32 = 0x7e02_0000;
/// The personalities of ordinary programs, and the value that only asks.
const PERSONALITIES: [u32; 5] = [0, 0x0008, 0x0002_0000, 0x0002_0008, 0xffff_ffff];
/// AF_ALG and AF_VSOCK: kernel code that no build needs, and a way to the machine's host.
const REFUSED_FAMILIES: [u32; 2] = [38, 40];

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Allow,
    /// It returns this error, or success where it is 0.
    Errno(u16),
    /// Allowed unless it makes namespaces.
    CheckClone,
    CheckPersonality,
    CheckSocket,
}

/// The verdicts for one architecture.
#[derive(Debug)]
pub(super) struct Section {
    audit: u32,
    unknown: Verdict,
    /// Where each interval starts.
    intervals: Vec<(u32, Verdict)>,
    next: u32,
}

impl Section {
    /// Returns a section in which every number has the verdict `unknown`.
    pub(super) fn new(audit: u32, unknown: Verdict) -> Section {
        Section { audit, unknown, intervals: Vec::new(), next: 0 }
    }

    /// Sets the verdict of a number; numbers come in ascending order.
    pub(super) fn add(&mut self, number: u32, verdict: Verdict) {
        if number > self.next {
            self.push(self.next, self.unknown);
        }
        self.push(number, verdict);
        self.next = number + 1;
    }

    fn push(&mut self, start: u32, verdict: Verdict) {
        if self.intervals.last().is_none_or(|(_, last)| *last != verdict) {
            self.intervals.push((start, verdict));
        }
    }

    fn code(&self) -> Vec<u64> {
        let mut intervals = self.intervals.clone();
        if intervals.last().is_none_or(|(_, last)| *last != self.unknown) {
            intervals.push((self.next, self.unknown));
        }
        let mut code = vec![load(OFFSET_NUMBER)];
        code.extend(search(&intervals));
        code
    }
}

/// Returns a program that decides by architecture and number, and kills programs of other architectures.
pub(super) fn assemble(sections: &[Section]) -> Vec<u64> {
    let mut program = vec![load(OFFSET_ARCHITECTURE)];
    for section in sections {
        let code = section.code();
        // Conditional jumps reach 255 instructions, a section may be longer.
        program.push(instruction(JUMP_IF_EQUAL, 1, 0, section.audit));
        program.push(instruction(JUMP, 0, 0, code.len() as u32));
        program.extend(code);
    }
    program.push(answer(RETURN_KILL_PROCESS));
    program
}

fn search(intervals: &[(u32, Verdict)]) -> Vec<u64> {
    if let [(_, verdict)] = intervals {
        return decide(*verdict);
    }
    let (low, high) = intervals.split_at(intervals.len() / 2);
    let below = search(low);
    let bound = high[0].0;
    let mut code = match u8::try_from(below.len()) {
        Ok(distance) => vec![instruction(JUMP_IF_AT_LEAST, distance, 0, bound)],
        Err(_) => {
            vec![instruction(JUMP_IF_AT_LEAST, 0, 1, bound), instruction(JUMP, 0, 0, below.len() as u32)]
        }
    };
    code.extend(below);
    code.extend(search(high));
    code
}

fn decide(verdict: Verdict) -> Vec<u64> {
    match verdict {
        Verdict::Allow => vec![answer(RETURN_ALLOW)],
        Verdict::Errno(errno) => vec![answer(RETURN_ERRNO | u32::from(errno))],
        Verdict::CheckClone => vec![
            load(OFFSET_ARGUMENT),
            instruction(JUMP_IF_ANY_BIT, 0, 1, NAMESPACE_FLAGS),
            refuse(),
            answer(RETURN_ALLOW),
        ],
        Verdict::CheckPersonality => check_argument(&PERSONALITIES, answer(RETURN_ALLOW), refuse()),
        Verdict::CheckSocket => check_argument(&REFUSED_FAMILIES, refuse(), answer(RETURN_ALLOW)),
    }
}

/// Compares the first argument with each value: one answer if it is among them, another if not.
fn check_argument(values: &[u32], found: u64, otherwise: u64) -> Vec<u64> {
    let mut code = vec![load(OFFSET_ARGUMENT)];
    for (index, value) in values.iter().enumerate() {
        let to_found = (values.len() - index) as u8;
        code.push(instruction(JUMP_IF_EQUAL, to_found, 0, *value));
    }
    code.extend([otherwise, found]);
    code
}

fn load(offset: u32) -> u64 {
    instruction(LOAD_WORD, 0, 0, offset)
}

fn answer(value: u32) -> u64 {
    instruction(RETURN, 0, 0, value)
}

fn refuse() -> u64 {
    answer(RETURN_ERRNO | libc::EPERM as u32)
}

fn instruction(code: u16, if_true: u8, if_false: u8, operand: u32) -> u64 {
    u64::from(code) << 48 | u64::from(if_true) << 40 | u64::from(if_false) << 32 | u64::from(operand)
}
