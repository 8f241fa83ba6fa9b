//! What the sweep is worth: with each protective step of recovery left out, and with each careless order
//! of stores, it finds something wrong.

use larder_crash_points::{Asked, Fault, Reorder, Settings, sweep};

/// Sweeps a family until something is wrong, which must be.
fn find_wrong(family: &str, settings: Settings) {
    match sweep(family, settings) {
        Err(what) => println!("{settings:?}: {}", what.lines().next().unwrap_or_default()),
        Ok(counts) => panic!("{settings:?}: nothing is wrong in {family}: {counts:?}"),
    }
}

fn without(fault: Fault, asked: Asked) -> Settings {
    Settings {
        fault: Some(fault),
        asked,
        dying_recovery_of: 0,
        ..Settings::SOUND
    }
}

/// The family of programs in which a step that is left out shows.
fn family_of(fault: Fault) -> &'static str {
    match fault {
        Fault::LocksStay
        | Fault::CommittedLengthIgnored
        | Fault::OpenStay
        | Fault::UnnamedStay
        | Fault::LiveBytesStay
        | Fault::FiguresStay => "operations",
        Fault::LinksStay => "growth",
        Fault::HalfSplitStays => "two keys of one tag",
        Fault::PartsStay | Fault::ReferencesStay => "large values",
        Fault::WordsStay | Fault::UnpaidPagesStay => "growth that is paid for",
    }
}

#[test]
fn without_any_step_of_recovery_something_is_wrong() {
    for fault in Fault::ALL {
        find_wrong(family_of(fault), without(fault, Asked::Everything));
    }
}

/// Without these, a caller reads what it must not, or waits for ever.
#[test]
fn without_some_steps_of_recovery_an_answer_is_wrong() {
    for fault in [
        Fault::LocksStay,
        Fault::HalfSplitStays,
        Fault::UnpaidPagesStay,
    ] {
        find_wrong(family_of(fault), without(fault, Asked::Answers));
    }
    // It takes more operations than others for a word that stays to be followed.
    find_wrong("everything", without(Fault::WordsStay, Asked::Answers));
}

/// In each of them, a caller reads what it must not, whatever the cache says about itself.
#[test]
fn in_any_careless_order_of_stores_an_answer_is_wrong() {
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
        find_wrong(family, settings);
    }
}
