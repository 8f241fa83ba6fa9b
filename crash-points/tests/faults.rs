//! What the sweep is worth: with each protective step of recovery left out, and with each careless order
//! of stores, it finds something wrong.

use larder_crash_points::{Asked, Fault, Reorder, Settings, sweep};

/// Sweeps a family until something is wrong, which must be.
fn found(family: &str, settings: Settings) -> String {
    match sweep(family, settings) {
        Err(what) => what,
        Ok(counts) => panic!("{settings:?}: {family} has no finding: {counts:?}"),
    }
}

fn without(fault: Fault, asked: Asked) -> Settings {
    Settings {
        fault: Some(fault),
        asked,
        ..Settings::SOUND
    }
}

#[test]
fn without_any_step_of_recovery_something_is_wrong() {
    for fault in Fault::ALL {
        let family = match fault {
            Fault::LocksStay
            | Fault::CommittedLengthIgnored
            | Fault::OpenStay
            | Fault::UnnamedStay
            | Fault::LiveBytesStay
            | Fault::FiguresStay => "operations",
            Fault::WordsStay | Fault::LinksStay => "growth",
            Fault::HalfSplitStays => "two keys of one tag",
            Fault::PartsStay | Fault::ReferencesStay => "large values",
            Fault::UnpaidPagesStay => "growth that is paid for",
        };
        let what = found(family, without(fault, Asked::Everything));
        println!("{fault:?}: {}", what.lines().next().unwrap_or_default());
    }
}

#[test]
#[ignore]
fn answers() {
    for fault in Fault::ALL {
        for family in [
            "operations",
            "growth",
            "two keys of one tag",
            "large values",
            "growth that is paid for",
            "chains that are paid for",
            "large values that are evicted",
            "eviction",
        ] {
            if let Err(what) = sweep(family, without(fault, Asked::Answers)) {
                println!(
                    "{fault:?}: {family}: {}",
                    what.lines().next().unwrap_or_default()
                );
            }
        }
    }
}

/// Each makes a caller read what it must not, whatever the cache says about itself.
#[test]
fn in_any_careless_order_of_stores_a_read_is_wrong() {
    for reorder in Reorder::ALL {
        let family = match reorder {
            Reorder::AnswerBeforePublication
            | Reorder::PublicationBeforeCommit
            | Reorder::PublicationBeforeBytes
            | Reorder::VersionsTakenLate
            | Reorder::NumberNamedFirst => "operations",
            Reorder::CountBeforeFill | Reorder::ClearBeforeCount => "growth",
            Reorder::PublicationBeforeExtents => "large values",
        };
        let settings = Settings {
            reorder: Some(reorder),
            asked: Asked::Answers,
            dying_recovery_of: 0,
            ..Settings::SOUND
        };
        let what = found(family, settings);
        println!("{reorder:?}: {}", what.lines().next().unwrap_or_default());
    }
}
