//! Programs: all sequences of a small alphabet of operations, and some that look random.

use crate::operation::Operation;
use crate::scene::{Keys, Layout, Scene};
use crate::sweep::{Counts, Depth, Settings, Sweep};

/// What a family's programs are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Operations after each other.
    Sequences,
    /// The last two of them at once.
    Pairs,
    /// So many programs of the longest length alone, whose operations look random: all of them die.
    Scattered(u64),
}

/// A family of programs on one layout.
#[derive(Debug, Clone)]
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) layout: Layout,
    pub(crate) keys: Keys,
    /// What every program begins with.
    pub(crate) setup: Vec<Operation>,
    pub(crate) alphabet: Vec<Operation>,
    /// Sessions that the operations are of.
    pub(crate) sessions: usize,
    /// Operations of the longest program.
    pub(crate) length: usize,
    /// What is done in recovered caches.
    pub(crate) aftermath: Vec<Operation>,
}

/// LIMIT: how many times more programs that look random a deep sweep has.
const DEEP_SCATTERED: u64 = 20;

type Step = (usize, Operation);

impl Family {
    /// Operations of the longest program.
    fn length(&self, settings: Settings) -> usize {
        self.length + usize::from(settings.depth == Depth::Deep)
    }

    /// All operations of all sessions.
    fn steps(&self) -> Vec<Step> {
        let sessions = 0..self.sessions;
        let of = |session| self.alphabet.iter().map(move |&op| (session, op));
        sessions.flat_map(of).collect()
    }

    /// The scene behind some steps.
    fn scene(&self, program: &[Step]) -> Result<Scene, String> {
        let mut scene = Scene::new(self.layout, &self.keys);
        let setup = self.setup.iter().map(|&operation| (0, operation));
        for (session, operation) in setup.chain(program.iter().copied()) {
            scene.step(session, operation)?;
        }
        Ok(scene)
    }

    /// Runs every program, and dies at every store of its last operation, or of its last two.
    pub(crate) fn sweep(&self, settings: Settings) -> Result<Counts, String> {
        match self.kind {
            Kind::Sequences => self.sweep_sequences(settings),
            Kind::Pairs => self.sweep_pairs(settings),
            Kind::Scattered(programs) => self.sweep_scattered(settings, programs),
        }
    }

    fn sweep_sequences(&self, settings: Settings) -> Result<Counts, String> {
        let mut sweep = Sweep::new(settings, &self.aftermath);
        let steps = self.steps();
        for length in 1..=self.length(settings) {
            each_program(&steps, length, |program| {
                let (last, before) = program.split_last().expect("it has a step");
                let told = |what| format!("{what}\nprogram of {}: {program:?}", self.name);
                let mut scene = self.scene(before).map_err(told)?;
                sweep.run(&mut scene, &[*last], 0).map_err(told)?;
                Ok::<(), String>(())
            })?;
        }
        Ok(sweep.counts)
    }

    fn sweep_scattered(&self, settings: Settings, programs: u64) -> Result<Counts, String> {
        let programs = match settings.depth {
            Depth::Usual => programs,
            Depth::Deep => programs * DEEP_SCATTERED,
        };
        let mut sweep = Sweep::new(settings, &self.aftermath);
        let steps = self.steps();
        for number in 0..programs {
            let mut scene = self.scene(&[])?;
            let mut program = Vec::new();
            let mut next = scattered(number);
            while program.len() < self.length {
                let step = steps[(next() % steps.len() as u64) as usize];
                program.push(step);
                let told = |what| format!("{what}\nprogram of {}: {program:?}", self.name);
                sweep.run(&mut scene, &[step], 0).map_err(told)?;
            }
        }
        Ok(sweep.counts)
    }

    /// Runs every pair of operations at once, the first one stopped after each of its stores, behind
    /// every shorter program.
    fn sweep_pairs(&self, settings: Settings) -> Result<Counts, String> {
        let mut sweep = Sweep::new(settings, &self.aftermath);
        let steps = self.steps();
        for length in 0..self.length(settings) {
            each_program(&steps, length, |before| self.pairs(before, &mut sweep))?;
        }
        Ok(sweep.counts)
    }

    fn pairs(&self, before: &[Step], sweep: &mut Sweep<'_>) -> Result<(), String> {
        for &first in &self.alphabet {
            for &second in &self.alphabet {
                let pair = [(0, first), (1, second)];
                for stop_after in 1.. {
                    let told = |what| {
                        let name = self.name;
                        format!(
                            "{what}\nprogram of {name}: {before:?}, then {pair:?}, stopped after {stop_after}"
                        )
                    };
                    let mut scene = self.scene(before).map_err(told)?;
                    if !sweep.run(&mut scene, &pair, stop_after).map_err(told)? {
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The numbers of a sequence that looks random.
fn scattered(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    }
}

/// Gives every program of this length to `visit`, until one has a finding.
fn each_program<T: Copy, E>(
    steps: &[T],
    length: usize,
    mut visit: impl FnMut(&[T]) -> Result<(), E>,
) -> Result<(), E> {
    let mut digits = vec![0; length];
    loop {
        let program: Vec<T> = digits.iter().map(|&digit: &usize| steps[digit]).collect();
        visit(&program)?;
        let Some(at) = digits.iter().rposition(|&digit| digit + 1 < steps.len()) else {
            return Ok(());
        };
        digits[at] += 1;
        digits[at + 1..].fill(0);
    }
}
