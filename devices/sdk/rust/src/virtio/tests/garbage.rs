//! Random rings.

use super::*;

/// Words that are likely enough to be followed some way.
#[test]
fn random_rings_never_panic_and_end() {
    let mut random = Random(42);
    let mut guest = guest();
    for turn in 0..100_000 {
        if turn % 8 == 0 || guest.status() != 0xf {
            guest.start(random.below(2) * EVENT_INDEX, 8, random.below(2) == 0);
        }
        for _ in 0..random.below(8) {
            let at = match random.below(3) {
                0 => DESC + random.below(8) * 16,
                _ => 0x7_0000 + random.below(16) * 16,
            };
            let address = match random.below(8) {
                0 => random.next(),
                1 => random.below(MEMORY_BYTES + 64),
                2 => DESC + random.below(0x1_0000),
                3 => USED + random.below(64),
                _ => 0x7_0000 + random.below(256),
            };
            let bytes = match random.below(6) {
                0 => random.next() as u32,
                1 => random.below(8) as u32 * 16,
                _ => random.below(2000) as u32,
            };
            guest.describe_at(at, address, bytes, random.below(8) as u16, random.below(10) as u16);
        }
        for _ in 0..random.below(4) {
            guest.offer(random.below(9) as u16);
        }
        if random.below(16) == 0 {
            let at = AVAIL + random.below(24);
            guest.memory.write_obj(random.next() as u8, GuestAddress(at)).unwrap();
        }
        let before = guest.doorbells.load(Ordering::Relaxed) >> 32;
        let outcome = guest.scan();
        let served = (guest.doorbells.load(Ordering::Relaxed) >> 32) - before;
        assert!(served <= u64::from(CHAINS_PER_SCAN));
        assert!(guest.device.check(&guest.state) || guest.word(USED + 2) != guest.state.queues[0].next_used);
        if outcome == Scan::Idle && random.below(64) == 0 && guest.device.check(&guest.state) {
            guest.kill();
        }
    }
    let served = guest.doorbells.load(Ordering::Relaxed) >> 32;
    assert!(served > 10_000, "the test gets somewhere: {served}");
}
