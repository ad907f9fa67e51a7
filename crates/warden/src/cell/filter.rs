//! The seccomp programme: the plan's list of denied calls as instructions of the kernel's classic BPF.
//!
//! One programme, which finds a call by halving the range of numbers, since every call of a cell passes through it and the kernel
//! checks and compiles it anew for each cell. It decides nothing: what is denied, and how, is the plan's list. A call of another
//! architecture ends the process, and so does one of x32, whose calls come under this architecture's name with other numbers.

use sulku_plan::syscalls::{Answer, Denied, Test};

/// One instruction, laid out as the kernel's `struct sock_filter`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How many instructions to leave out where a comparison holds.
    pub jt: u8,
    /// And where it does not.
    pub jf: u8,
    /// A number.
    pub k: u32,
}

/// Where the kernel puts the call's number, its architecture, and the low half of its first argument; `seccomp(2)`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;
/// Numbers from here on are those of x32, on a processor that has it.
const X32: u32 = 0x4000_0000;
/// The longest jump that one comparison can make.
const JUMP_MAX: usize = u8::MAX as usize;

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const MASK: u32 = libc::BPF_ALU | libc::BPF_AND | libc::BPF_K;
const IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const IF_AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
const JUMP: u32 = libc::BPF_JMP | libc::BPF_JA;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

/// The architecture that the calls must be of, as `audit.h` numbers it.
#[cfg(target_arch = "x86_64")]
pub const OWN_ARCHITECTURE: Option<u32> = Some(0xc000_003e);
#[cfg(target_arch = "aarch64")]
pub const OWN_ARCHITECTURE: Option<u32> = Some(0xc000_00b7);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub const OWN_ARCHITECTURE: Option<u32> = None;

/// The programme that denies these calls, each given with its number, on this architecture.
pub fn programme(denied: &[(u32, &Denied)], architecture: u32) -> Vec<Instruction> {
    let mut by_number: Vec<(u32, Vec<&Denied>)> = Vec::new();
    let mut sorted = denied.to_vec();
    sorted.sort_by_key(|(number, _)| *number);
    for (number, rule) in sorted {
        match by_number.last_mut() {
            Some((last, rules)) if *last == number => rules.push(rule),
            _ => by_number.push((number, vec![rule])),
        }
    }
    // The numbers in ranges that are answered alike; the first begins at 0.
    let mut ranges: Vec<(u32, Vec<Instruction>)> = vec![(0, allow())];
    let mut then = |from: u32, answer: Vec<Instruction>| match ranges.last_mut() {
        Some((begins, last)) if *begins == from => *last = answer,
        Some((_, last)) if *last == answer => {}
        _ => ranges.push((from, answer)),
    };
    for (number, rules) in by_number {
        then(number, answer(&rules));
        then(number + 1, allow());
    }
    if cfg!(target_arch = "x86_64") {
        then(X32, kill());
    }
    let mut text = vec![step(LOAD, ARCHITECTURE), branch(IF_EQUAL, architecture, 1, 0)];
    text.extend(kill());
    text.push(step(LOAD, NUMBER));
    text.extend(search(&ranges));
    text
}

/// Finds the range that the loaded number is in, and goes to its answer.
fn search(ranges: &[(u32, Vec<Instruction>)]) -> Vec<Instruction> {
    let (below, above) = ranges.split_at(ranges.len() / 2);
    let Some((from, answer)) = above.first() else { return allow() };
    if below.is_empty() {
        return answer.clone();
    }
    let (below, above) = (search(below), search(above));
    let mut text = match u8::try_from(below.len()) {
        Ok(over) => vec![branch(IF_AT_LEAST, *from, over, 0)],
        Err(_) => vec![branch(IF_AT_LEAST, *from, 0, 1), step(JUMP, u32::try_from(below.len()).expect("the kernel takes 4096 instructions"))],
    };
    text.extend(below);
    text.extend(above);
    text
}

/// What is answered to a call that these rules are about.
fn answer(rules: &[&Denied]) -> Vec<Instruction> {
    if let Some(always) = rules.iter().find(|rule| rule.when.is_empty()) {
        return deny(always.answer);
    }
    let mut text: Vec<_> = rules.iter().flat_map(|rule| rule.when.iter().flat_map(|all| deny_when(all, rule.answer))).collect();
    text.extend(allow());
    text
}

/// Denies if all tests hold; else goes on behind.
fn deny_when(tests: &[Test], answer: Answer) -> Vec<Instruction> {
    let mut text = deny(answer);
    // From the last to the first, so that each knows how far it is to the end.
    for test in tests.iter().rev() {
        let past = u8::try_from(text.len()).expect("a rule has a handful of tests");
        let (argument, mask, value, holds) = match *test {
            Test::Is(argument, value) => (argument, None, value, true),
            Test::IsNot(argument, value) => (argument, None, value, false),
            Test::Bits(argument, mask, value) => (argument, Some(mask), value, true),
        };
        let mut lines = vec![step(LOAD, ARGUMENTS + 8 * u32::from(argument))];
        lines.extend(mask.map(|mask| step(MASK, mask)));
        lines.push(if holds { branch(IF_EQUAL, value, 0, past) } else { branch(IF_EQUAL, value, past, 0) });
        lines.extend(text);
        text = lines;
    }
    debug_assert!(text.len() <= JUMP_MAX, "a rule has a handful of tests");
    text
}

fn deny(answer: Answer) -> Vec<Instruction> {
    let errno = match answer {
        Answer::Eperm => libc::EPERM,
        Answer::Enosys => libc::ENOSYS,
    };
    vec![step(RETURN, libc::SECCOMP_RET_ERRNO | errno.cast_unsigned())]
}

fn allow() -> Vec<Instruction> {
    vec![step(RETURN, libc::SECCOMP_RET_ALLOW)]
}

fn kill() -> Vec<Instruction> {
    vec![step(RETURN, libc::SECCOMP_RET_KILL_PROCESS)]
}

fn step(code: u32, number: u32) -> Instruction {
    branch(code, number, 0, 0)
}

fn branch(code: u32, number: u32, holds: u8, fails: u8) -> Instruction {
    Instruction { code: u16::try_from(code).expect("codes have 16 bits"), jt: holds, jf: fails, k: number }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sulku_plan::syscalls::DENIED;

    use super::*;
    use sulku_permit::Rung;

    use crate::cell::walls::numbered;

    const HERE: u32 = 0xc000_003e;

    /// What the kernel would do, by the instructions.
    fn run(text: &[Instruction], call: u32, architecture: u32, arguments: &[u64; 6]) -> u32 {
        let (mut at, mut held) = (0_usize, 0_u32);
        loop {
            let Instruction { code, jt, jf, k } = text[at];
            at += 1;
            let branch = |holds: bool| usize::from(if holds { jt } else { jf });
            match u32::from(code) {
                LOAD if k == NUMBER => held = call,
                LOAD if k == ARCHITECTURE => held = architecture,
                LOAD => held = (arguments[((k - ARGUMENTS) / 8) as usize] & 0xffff_ffff) as u32,
                MASK => held &= k,
                IF_EQUAL => at += branch(held == k),
                IF_AT_LEAST => at += branch(held >= k),
                JUMP => at += k as usize,
                RETURN => return k,
                other => panic!("an instruction that no kernel knows: {other:#x}"),
            }
        }
    }

    /// What the plan's list says, read rule by rule.
    fn expected(call: u32, arguments: &[u64; 6]) -> u32 {
        let holds = |test: &Test| match *test {
            Test::Is(argument, value) => arguments[usize::from(argument)] as u32 == value,
            Test::IsNot(argument, value) => arguments[usize::from(argument)] as u32 != value,
            Test::Bits(argument, mask, value) => arguments[usize::from(argument)] as u32 & mask == value,
        };
        for (number, rule) in numbered(Rung::Root).expect("numbers") {
            if number == call && (rule.when.is_empty() || rule.when.iter().any(|all| all.iter().all(holds))) {
                return deny(rule.answer)[0].k;
            }
        }
        libc::SECCOMP_RET_ALLOW
    }

    fn text() -> Vec<Instruction> {
        programme(&numbered(Rung::Root).expect("numbers"), HERE)
    }

    #[test]
    fn every_call_number_is_answered_as_the_plan_says() {
        let text = text();
        assert!(text.len() < 300, "{} instructions: the kernel compiles them for each cell", text.len());
        let mut denied = 0;
        for call in 0..1_000 {
            let arguments = [0; 6];
            assert_eq!(run(&text, call, HERE, &arguments), expected(call, &arguments), "call {call}");
            denied += u32::from(expected(call, &arguments) != libc::SECCOMP_RET_ALLOW);
        }
        assert!(denied > 60, "control: the list denies calls");
        assert_eq!(run(&text, libc::SYS_read as u32, HERE, &[0; 6]), libc::SECCOMP_RET_ALLOW, "control: reading is allowed");
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn calls_of_another_architecture_and_of_x32_end_the_process() {
        let text = text();
        for call in [0, 20, 272, 1_000] {
            assert_eq!(run(&text, call, 0x4000_0003, &[0; 6]), libc::SECCOMP_RET_KILL_PROCESS, "i386");
            assert_eq!(run(&text, call | X32, HERE, &[0; 6]), libc::SECCOMP_RET_KILL_PROCESS, "x32");
        }
        assert_eq!(run(&text, u32::MAX, HERE, &[0; 6]), libc::SECCOMP_RET_KILL_PROCESS);
    }

    #[test]
    fn a_jump_that_is_too_long_for_a_comparison_is_taken_in_two_steps() {
        let rules: Vec<(u32, &Denied)> = (0..700).map(|number| (number * 2, &DENIED[usize::from(number % 3 == 0)])).collect();
        let text = programme(&rules, HERE);
        for (number, rule) in rules {
            let arguments = [0x0002_0000, 0, 0, 0, 0, 0];
            assert_eq!(run(&text, number, HERE, &arguments), deny(rule.answer)[0].k, "call {number}");
            assert_eq!(run(&text, number + 1, HERE, &arguments), libc::SECCOMP_RET_ALLOW, "call {}", number + 1);
        }
    }

    proptest! {
        #[test]
        fn any_arguments_are_answered_as_the_plan_says(
            pick in any::<prop::sample::Index>(),
            arguments in prop::array::uniform6(prop_oneof![0_u64..20, any::<u64>(), (0_u32..40).prop_map(|bit| 1_u64 << bit), Just(0x5412), Just(262)]),
        ) {
            let calls = numbered(Rung::Root).expect("numbers");
            let (call, _) = calls[pick.index(calls.len())];
            prop_assert_eq!(run(&text(), call, HERE, &arguments), expected(call, &arguments));
        }
    }
}
