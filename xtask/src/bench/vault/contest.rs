//! One spool, saved and given back by several programs in turns.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use super::programs::{Program, Task};
use crate::bench::racers::Ground;
use crate::bench::sample::Series;
use crate::bench::workbench::{Spool, Workbench, bytes_below, remove};

/// How often short tasks are repeated.
const REPEATED: usize = 3;

/// Spools up to this size are read once before they are saved, so that they are in memory.
const WARM_MAX: u64 = 8 << 30;

/// What large messages have each; from their attachments on, three quarters of it do not compress
/// away.
const LARGE: u64 = 70_000;

/// How it went.
#[derive(Debug)]
pub struct Contest {
    /// What was saved.
    pub spool: Spool,
    /// How often everything was done.
    pub rounds: usize,
    /// What each program showed, in the order of the tables.
    pub results: Vec<Performance>,
}

/// What one program showed.
#[derive(Debug)]
pub struct Performance {
    /// Which.
    pub program: Program,
    /// The runs of each task that it took part in.
    pub tasks: BTreeMap<Task, Series>,
    /// What its store weighs after a first backup.
    pub stored: Option<u64>,
}

/// A spool of that many accounts of real mail.
pub fn fleet(bench: &Workbench, accounts: u64) -> Result<Spool, String> {
    bench.check_room(accounts * 1_000 * 15_000)?;
    bench.spool(1_000, &["--accounts", &accounts.to_string(), "--mailboxes", "10"])
}

/// A spool whose mail takes a lot of room, compressed or not.
pub fn large(bench: &Workbench, accounts: u64) -> Result<Spool, String> {
    bench.check_room(accounts * 1_000 * LARGE * 5 / 2)?;
    let (accounts, size) = (accounts.to_string(), LARGE.to_string());
    bench.spool(1_000, &["--accounts", &accounts, "--mailboxes", "10", "--size", &size])
}

impl Contest {
    /// All tasks on one account.
    pub fn account(
        bench: &Workbench,
        spool: Spool,
        programs: &[Program],
        rounds: usize,
    ) -> Result<Self, String> {
        use Task::{First, Message, Restore, Unchanged, Verify};
        let tasks = [First, Unchanged, Message, Restore, Verify];
        Self::run(bench, spool, programs, &tasks, rounds)
    }

    /// What a run over many accounts is about.
    pub fn fleet(bench: &Workbench, spool: Spool, programs: &[Program]) -> Result<Self, String> {
        Self::run(bench, spool, programs, &[Task::First, Task::Unchanged, Task::Message], 1)
    }

    fn run(
        bench: &Workbench,
        spool: Spool,
        programs: &[Program],
        tasks: &[Task],
        rounds: usize,
    ) -> Result<Self, String> {
        let new = |program: &Program| Performance {
            program: *program,
            tasks: BTreeMap::new(),
            stored: None,
        };
        let results = programs.iter().map(new).collect();
        let mut contest = Self { spool, rounds, results };
        let root = bench.fresh("contest")?;
        for round in 1..=rounds {
            eprintln!("{} messages, round {round} of {rounds}", contest.spool.messages);
            for task in tasks {
                for at in 0..programs.len() {
                    // Nobody always runs behind the same other program.
                    let at = (at + round) % programs.len();
                    let own = root.join(format!("{round}-{}", programs[at].name()));
                    contest.task(bench, own, at, *task)?;
                }
            }
        }
        // Not between rounds: ext4 takes longer to make files just after others were removed.
        remove(&root)?;
        Ok(contest)
    }

    fn task(
        &mut self,
        bench: &Workbench,
        own: PathBuf,
        at: usize,
        task: Task,
    ) -> Result<(), String> {
        let result = &mut self.results[at];
        let ground = Ground { bench, spool: &self.spool, own };
        if task == Task::First {
            let made = fs::create_dir_all(&ground.own);
            made.map_err(|e| format!("create {}: {e}", ground.own.display()))?;
            for words in result.program.before(&ground) {
                bench.meter.run(&words)?;
            }
            if self.spool.message_bytes < WARM_MAX {
                self.spool.warm(&bench.meter)?;
            }
        }
        let runs = if matches!(task, Task::Unchanged | Task::Message) { REPEATED } else { 1 };
        for run in 0..runs {
            let Some(words) = result.program.words(task, &ground, run) else { break };
            result.tasks.entry(task).or_default().0.push(bench.meter.run(&words)?);
        }
        if task == Task::First && result.tasks.contains_key(&task) {
            result.stored = Some(bytes_below(ground.own("store").as_ref())?);
        }
        Ok(())
    }

    /// What a program showed in a task, if both took part.
    pub fn of(&self, program: Program, task: Task) -> Option<&Series> {
        self.result(program)?.tasks.get(&task)
    }

    /// What a program's store weighs.
    pub fn stored(&self, program: Program) -> Option<u64> {
        self.result(program)?.stored
    }

    fn result(&self, program: Program) -> Option<&Performance> {
        self.results.iter().find(|result| result.program == program)
    }
}
