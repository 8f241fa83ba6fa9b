//! Mappings, their pages, and what is given back of them.

use super::*;

const MIB: u64 = 1 << 20;

fn plan(huge_pages: HugePages, prefault: Prefault) -> PagePlan {
    PagePlan {
        huge_pages,
        prefault,
        in_use: vec![0..MIB, 3 * MIB..9 * MIB],
        segments: 3 * MIB..9 * MIB,
        index: Vec::new(),
        given_away: Vec::new(),
    }
}

/// What the system says of the part of the mapping that begins at an offset: its flags, and the
/// bytes of a named figure.
fn said(mapping: &Mapping, offset: u64, name: &str) -> (Vec<String>, u64) {
    let at = mapping.address(offset).addr();
    let all = std::fs::read_to_string("/proc/self/smaps").expect("smaps");
    let mut lines = all.lines().skip_while(|line| {
        let (from, to) = (line.split(['-', ' ']).next(), line.split(['-', ' ']).nth(1));
        let number = |text: Option<&str>| usize::from_str_radix(text.unwrap_or(""), 16);
        match (number(from), number(to)) {
            (Ok(from), Ok(to)) => !(from..to).contains(&at),
            _ => true,
        }
    });
    let head = lines.next().expect("the mapping");
    assert!(head.contains("memfd:larder-arena"), "{head}");
    let (mut flags, mut bytes) = (Vec::new(), 0);
    for line in lines {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("VmFlags:") => {
                flags = words.map(str::to_owned).collect();
                break;
            }
            Some(of) if of.trim_end_matches(':') == name => {
                bytes = words
                    .next()
                    .expect("a figure")
                    .parse::<u64>()
                    .expect("a number")
                    << 10;
            }
            _ => {}
        }
    }
    (flags, bytes)
}

#[test]
fn nothing_of_it_goes_into_a_core_dump() {
    let mut mapping = Mapping::new("larder-arena", 16 * MIB).expect("mapping");
    mapping
        .arrange(&plan(HugePages::Auto, Prefault::OnFirstUse))
        .expect("pages");
    for offset in [0, 3 * MIB, 4 * MIB, 15 * MIB] {
        let (flags, _) = said(&mapping, offset, "Rss");
        assert!(flags.contains(&"dd".to_owned()), "{offset}: {flags:?}");
    }
}

#[test]
fn what_is_touched_ahead_is_what_is_in_use_and_no_more() {
    for huge_pages in [HugePages::Never, HugePages::Auto] {
        let mut mapping = Mapping::new("larder-arena", 16 * MIB).expect("mapping");
        let plan = plan(huge_pages, Prefault::Ahead);
        mapping.arrange(&plan).expect("pages");
        assert_eq!(held_bytes(&mapping), 7 * MIB, "{huge_pages:?}");
    }
}

/// The bytes of the mapping that are in memory.
fn held_bytes(mapping: &Mapping) -> u64 {
    let (mut bytes, mut offset) = (0, 0);
    while offset < mapping.bytes {
        bytes += said(mapping, offset, "Rss").1;
        offset += said(mapping, offset, "Size").1;
    }
    bytes
}

#[test]
fn more_than_there_is_cannot_be_touched_ahead() {
    let mut mapping = Mapping::new("larder-arena", 1 << 44).expect("mapping");
    let mut plan = plan(HugePages::Never, Prefault::Ahead);
    plan.in_use = vec![0..1 << 43, 1 << 43..1 << 44];
    let error = mapping.arrange(&plan).unwrap_err().to_string();
    assert!(
        error.contains("17592186044416 bytes cannot be touched ahead"),
        "{error}"
    );
    assert_eq!(held_bytes(&mapping), 0);
    plan.prefault = Prefault::OnFirstUse;
    let error = mapping.arrange(&plan).unwrap_err().to_string();
    assert!(
        error.contains("17592186044416 bytes cannot be had"),
        "{error}"
    );
    // What has come to be is not refused.
    // SAFETY: it lies within the mapping, which nobody else uses.
    unsafe { mapping.start().write(1_u8) };
    assert!(mapping.arrange(&plan).is_ok());
}

#[test]
fn what_the_memory_has_already_need_not_be_available() {
    let mapping = Mapping::new("larder-arena", 16 * MIB).expect("mapping");
    let ranges = [0..MIB, 3 * MIB..9 * MIB];
    assert_eq!(mapping.missing_bytes(&ranges), 7 * MIB);
    mapping.touch_each_page(&(3 * MIB..8 * MIB));
    assert_eq!(mapping.missing_bytes(&ranges), 2 * MIB);
    mapping.touch_each_page(&(0..16 * MIB));
    assert_eq!(mapping.missing_bytes(&ranges), 0);
}

#[test]
fn touching_page_by_page_brings_the_same_pages_into_being() {
    let mapping = Mapping::new("larder-arena", 16 * MIB).expect("mapping");
    mapping.touch_each_page(&(3 * MIB..9 * MIB));
    assert_eq!(held_bytes(&mapping), 6 * MIB);
}

#[test]
fn huge_pages_are_made_or_refused_and_can_be_given_back_in_part() {
    let mut mapping = Mapping::new("larder-arena", 16 * MIB).expect("mapping");
    match mapping.arrange(&plan(HugePages::Always, Prefault::OnFirstUse)) {
        Ok(()) => {}
        Err(error) => {
            // This machine has none; then it must say so, and what to do.
            assert!(error.to_string().contains("accepted"), "{error}");
            return;
        }
    }
    assert_eq!(mapping.pages(), Pages::Huge { bytes: 4 * MIB });
    let (flags, huge_bytes) = said(&mapping, 4 * MIB, "ShmemPmdMapped");
    assert!(flags.contains(&"hg".to_owned()), "{flags:?}");
    assert_eq!((held_bytes(&mapping), huge_bytes), (4 * MIB, 4 * MIB));
    // SAFETY: inside the mapping, and nobody uses it.
    unsafe { mapping.release(5 * MIB..6 * MIB) }.expect("release");
    for (offset, flag) in [(0, "nh"), (4 * MIB, "nh"), (6 * MIB, "hg"), (8 * MIB, "nh")] {
        let (flags, _) = said(&mapping, offset, "Rss");
        assert!(flags.contains(&flag.to_owned()), "{offset}: {flags:?}");
    }
    let word = mapping.address(4 * MIB).cast::<AtomicU64>();
    // SAFETY: inside the mapping and aligned.
    unsafe { &*word }.store(1, Ordering::Relaxed);
    mapping.touch_each_page(&(4 * MIB..5 * MIB));
    assert_eq!(held_bytes(&mapping), 3 * MIB);
}

#[test]
fn huge_pages_are_made_one_by_one_but_not_of_what_was_given_back() {
    let mut mapping = Mapping::new("larder-arena", 16 * MIB).expect("mapping");
    mapping
        .arrange(&plan(HugePages::Auto, Prefault::OnFirstUse))
        .expect("pages");
    assert!(mapping.takes_huge_pages());
    assert_eq!(held_bytes(&mapping), 0);
    let word = |offset| {
        let word = mapping.address(offset).cast::<AtomicU64>();
        // SAFETY: inside the mapping and aligned.
        unsafe { &*word }
    };
    word(5 * MIB).store(7, Ordering::Relaxed);
    if mapping.make_huge_page(4 * MIB).is_err() {
        // This machine has none, as above.
        return;
    }
    // Of the index, and of what nobody has touched yet.
    mapping.make_huge_page(10 * MIB).expect("a huge page");
    assert_eq!(mapping.pages(), Pages::Huge { bytes: 4 * MIB });
    for offset in [4, 10] {
        let (_, huge_bytes) = said(&mapping, offset * MIB, "ShmemPmdMapped");
        assert_eq!(huge_bytes, 2 * MIB, "{offset}");
    }
    assert_eq!(word(5 * MIB).load(Ordering::Relaxed), 7);
    // SAFETY: inside the mapping, and nobody uses it.
    unsafe { mapping.release(5 * MIB..6 * MIB) }.expect("release");
    mapping.make_huge_page(4 * MIB).unwrap_err();
    assert_eq!(mapping.pages(), Pages::Huge { bytes: 2 * MIB });
    mapping.touch_each_page(&(4 * MIB..5 * MIB));
    assert_eq!(held_bytes(&mapping), 3 * MIB);
}

#[test]
fn pages_are_given_back_while_a_huge_page_is_made_there() {
    let mut mapping = Mapping::new("larder-arena", 16 * MIB).expect("mapping");
    mapping
        .arrange(&plan(HugePages::Auto, Prefault::OnFirstUse))
        .expect("pages");
    mapping.touch_each_page(&(4 * MIB..8 * MIB));
    assert!(mapping.begin_huge_page(4 * MIB).expect("the first"));
    let another = mapping.make_huge_page(6 * MIB).unwrap_err();
    assert_eq!(another.kind(), io::ErrorKind::WouldBlock);
    // SAFETY: inside the mapping, and nobody uses it.
    unsafe { mapping.release(7 * MIB..8 * MIB) }.expect("given back at once");
    assert_eq!(held_bytes(&mapping), 3 * MIB);
    // SAFETY: as above.
    unsafe { mapping.release(5 * MIB..6 * MIB) }.expect("given back when the page is made");
    assert_eq!(held_bytes(&mapping), 3 * MIB);
    mapping.end_huge_page(4 * MIB, Ok(())).unwrap_err();
    assert_eq!(held_bytes(&mapping), 2 * MIB);
    assert_eq!(mapping.pages(), Pages::Base);
    mapping.make_huge_page(4 * MIB).unwrap_err();
}

#[test]
fn what_was_given_away_stays_away_when_another_mapping_takes_over() {
    let mut first = Mapping::new("larder-arena", 16 * MIB).expect("mapping");
    let mut plan = plan(HugePages::Always, Prefault::OnFirstUse);
    if first.arrange(&plan).is_err() {
        // This machine has none, as above.
        return;
    }
    // SAFETY: inside the mapping, and nobody uses it.
    unsafe { first.release(5 * MIB..6 * MIB) }.expect("release");
    let memory = first.memory().try_clone_to_owned().expect("a descriptor");
    drop(first);
    let mut mapping = Mapping::attach(memory, 16 * MIB).expect("mapping");
    plan.given_away.push(5 * MIB..6 * MIB);
    mapping.arrange(&plan).expect("pages");
    assert_eq!(mapping.pages(), Pages::Huge { bytes: 2 * MIB });
    assert_eq!(said(&mapping, 6 * MIB, "ShmemPmdMapped").1, 2 * MIB);
    let (flags, _) = said(&mapping, 4 * MIB, "Rss");
    assert!(flags.contains(&"nh".to_owned()), "{flags:?}");
    mapping.touch_each_page(&(4 * MIB..5 * MIB));
    assert_eq!(held_bytes(&mapping), 3 * MIB);
}

#[test]
fn ranges_that_were_given_away_divide_the_huge_pages() {
    let mut mapping = Mapping::new("larder-arena", 64 * MIB).expect("mapping");
    mapping.huge = 4 * MIB..20 * MIB;
    let without = |ranges: &[(u64, u64)]| -> Vec<_> {
        let ranges = ranges.iter().map(|&(start, end)| start * MIB..end * MIB);
        let whole = mapping.huge_without(&ranges.collect::<Vec<_>>());
        let whole = whole.into_iter();
        whole
            .map(|range| (range.start / MIB, range.end / MIB))
            .collect()
    };
    assert_eq!(without(&[]), [(4, 20)]);
    assert_eq!(without(&[(0, 1), (30, 40)]), [(4, 20)]);
    let some = [(3, 5), (9, 10), (11, 12), (13, 15)];
    assert_eq!(without(&some), [(6, 8), (16, 20)]);
    assert_eq!(without(&[(0, 64)]), []);
}

#[test]
fn a_memory_without_a_whole_huge_page_has_none() {
    let mut mapping = Mapping::new("larder-arena", 16 * MIB).expect("mapping");
    let mut small = plan(HugePages::Always, Prefault::OnFirstUse);
    small.segments = 3 * MIB..5 * MIB;
    let error = mapping.arrange(&small).unwrap_err().to_string();
    assert!(error.contains("the segments hold no whole one"), "{error}");
    small.huge_pages = HugePages::Auto;
    mapping.arrange(&small).expect("pages");
    assert_eq!(mapping.pages(), Pages::Base);
}
