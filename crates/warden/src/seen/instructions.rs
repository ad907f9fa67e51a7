//! The two programmes that the kernel runs when a cell begins to send: each notes which process it was, and lets the packet go on.
//!
//! ```text
//! key     the packet's source, destination (network order), source port, destination port (host order), protocol: 5 × 32 bits
//! value   thread and process id (as bpf_get_current_pid_tgid gives them), time since boot in nanoseconds: 2 × 64 bits
//! ```
//!
//! TCP is noted where a connection begins, with its ports chosen and in the process that begins it (a packet that is sent again is
//! sent by whatever runs just then); all else where it is sent. They are written by hand, since they are forty instructions and a
//! compiler for them would be the larger thing to trust. `bpf(2)`, `linux/bpf.h`.

/// One instruction: code, registers (source in the upper half), offset, immediate.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// Bytes of the map's key.
pub const KEY_BYTES: usize = 20;
/// Bytes of the map's value.
pub const VALUE_BYTES: usize = 16;

// The frame, downwards from its end: the value, the key, room for a header.
const VALUE: i16 = -16;
const KEY: i16 = -40;
const SOURCE: i16 = KEY;
const DESTINATION: i16 = KEY + 4;
const SOURCE_PORT: i16 = KEY + 8;
const DESTINATION_PORT: i16 = KEY + 12;
const PROTOCOL: i16 = KEY + 16;
const HEADER: i16 = -64;
const PORTS: i16 = -72;

// Helpers, by the numbers of linux/bpf.h.
const MAP_UPDATE: i32 = 2;
const CURRENT_PROCESS: i32 = 14;
const LOAD_BYTES: i32 = 26;
const TIME_SINCE_BOOT: i32 = 125;

const FRAME: u8 = 10;

const fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: to | from << 4, offset, immediate }
}

const fn copy(to: u8, from: u8) -> Instruction {
    instruction(0xbf, to, from, 0, 0)
}

const fn set(to: u8, value: i32) -> Instruction {
    instruction(0xb7, to, 0, 0, value)
}

const fn add(to: u8, value: i32) -> Instruction {
    instruction(0x07, to, 0, 0, value)
}

const fn and(to: u8, value: i32) -> Instruction {
    instruction(0x57, to, 0, 0, value)
}

const fn shift_left(to: u8, by: i32) -> Instruction {
    instruction(0x67, to, 0, 0, by)
}

/// Turns the low `bits` of a register from network order into the host's, or back.
const fn swap(to: u8, bits: i32) -> Instruction {
    instruction(0xdc, to, 0, 0, bits)
}

/// Loads 8, 16 or 32 bits from memory.
const fn load_8(to: u8, from: u8, offset: i16) -> Instruction {
    instruction(0x71, to, from, offset, 0)
}

const fn load_16(to: u8, from: u8, offset: i16) -> Instruction {
    instruction(0x69, to, from, offset, 0)
}

const fn load_32(to: u8, from: u8, offset: i16) -> Instruction {
    instruction(0x61, to, from, offset, 0)
}

const fn store_32(offset: i16, from: u8) -> Instruction {
    instruction(0x63, FRAME, from, offset, 0)
}

const fn store_64(offset: i16, from: u8) -> Instruction {
    instruction(0x7b, FRAME, from, offset, 0)
}

const fn store_32_value(offset: i16, value: i32) -> Instruction {
    instruction(0x62, FRAME, 0, offset, value)
}

const fn call(helper: i32) -> Instruction {
    instruction(0x85, 0, 0, 0, helper)
}

/// What a programme jumps to; resolved when all of it is there.
const OUT: i16 = i16::MIN;

const fn out_unless_equal(register: u8, value: i32) -> Instruction {
    instruction(0x55, register, 0, OUT, value)
}

const fn out_if_equal(register: u8, value: i32) -> Instruction {
    instruction(0x15, register, 0, OUT, value)
}

/// Skips so many instructions if the register has this value.
const fn skip_if_equal(register: u8, value: i32, instructions: i16) -> Instruction {
    instruction(0x15, register, 0, instructions, value)
}

/// Notes the current process under the key that stands in the frame.
fn note(map: i32) -> Vec<Instruction> {
    vec![
        call(CURRENT_PROCESS),
        store_64(VALUE, 0),
        call(TIME_SINCE_BOOT),
        store_64(VALUE + 8, 0),
        // The map, by its descriptor: one instruction of twice the length.
        instruction(0x18, 1, 1, 0, map),
        instruction(0, 0, 0, 0, 0),
        copy(2, FRAME),
        add(2, KEY as i32),
        copy(3, FRAME),
        add(3, VALUE as i32),
        set(4, 0),
        call(MAP_UPDATE),
    ]
}

/// Ends a programme with "go on", and has all its jumps out lead there.
fn finished(mut programme: Vec<Instruction>) -> Vec<Instruction> {
    let end = programme.len();
    for (place, instruction) in programme.iter_mut().enumerate().filter(|(_, instruction)| instruction.offset == OUT) {
        instruction.offset = i16::try_from(end - place - 1).expect("these programmes are short");
    }
    programme.extend([set(0, 1), instruction(0x95, 0, 0, 0, 0)]);
    programme
}

/// Runs as a TCP connection begins (`BPF_PROG_TYPE_SOCK_OPS`).
pub fn tcp_begins(map: i32) -> Vec<Instruction> {
    // Of struct bpf_sock_ops.
    const OPERATION: i16 = 0;
    const FAMILY: i16 = 20;
    const REMOTE: i16 = 24;
    const LOCAL: i16 = 28;
    const REMOTE_PORT: i16 = 64;
    const LOCAL_PORT: i16 = 68;
    const BEGINS: i32 = 3;
    let mut programme = vec![
        copy(6, 1),
        load_32(2, 6, OPERATION),
        out_unless_equal(2, BEGINS),
        load_32(2, 6, FAMILY),
        out_unless_equal(2, libc::AF_INET),
        load_32(2, 6, LOCAL),
        store_32(SOURCE, 2),
        load_32(2, 6, REMOTE),
        store_32(DESTINATION, 2),
        load_32(2, 6, LOCAL_PORT),
        store_32(SOURCE_PORT, 2),
        load_32(2, 6, REMOTE_PORT),
        swap(2, 32),
        store_32(DESTINATION_PORT, 2),
        store_32_value(PROTOCOL, libc::IPPROTO_TCP),
    ];
    programme.extend(note(map));
    finished(programme)
}

/// Runs as a packet leaves (`BPF_PROG_TYPE_CGROUP_SKB`).
pub fn packet_leaves(map: i32) -> Vec<Instruction> {
    const HEADER_BYTES: i32 = 20;
    let mut programme = vec![
        copy(6, 1),
        set(2, 0),
        copy(3, FRAME),
        add(3, HEADER as i32),
        set(4, HEADER_BYTES),
        call(LOAD_BYTES),
        out_unless_equal(0, 0),
        load_8(2, FRAME, HEADER),
        copy(7, 2),
        and(2, 0xf0),
        out_unless_equal(2, 0x40),
        // The header's length, in bytes.
        and(7, 0x0f),
        shift_left(7, 2),
        load_8(8, FRAME, HEADER + 9),
        out_if_equal(8, libc::IPPROTO_TCP),
        // A later fragment has no ports; the first one was noted.
        load_16(2, FRAME, HEADER + 6),
        swap(2, 16),
        and(2, 0x1fff),
        out_unless_equal(2, 0),
        load_32(2, FRAME, HEADER + 12),
        store_32(SOURCE, 2),
        load_32(2, FRAME, HEADER + 16),
        store_32(DESTINATION, 2),
        store_32(PROTOCOL, 8),
        store_32_value(SOURCE_PORT, 0),
        store_32_value(DESTINATION_PORT, 0),
    ];
    let ports = [
        copy(1, 6),
        copy(2, 7),
        copy(3, FRAME),
        add(3, PORTS as i32),
        set(4, 4),
        call(LOAD_BYTES),
        out_unless_equal(0, 0),
        load_16(2, FRAME, PORTS),
        swap(2, 16),
        store_32(SOURCE_PORT, 2),
        load_16(2, FRAME, PORTS + 2),
        swap(2, 16),
        store_32(DESTINATION_PORT, 2),
    ];
    // All other protocols are noted without.
    programme.push(skip_if_equal(8, libc::IPPROTO_UDP, 1));
    programme.push(instruction(0x05, 0, 0, i16::try_from(ports.len()).expect("a few"), 0));
    programme.extend(ports);
    programme.extend(note(map));
    finished(programme)
}
