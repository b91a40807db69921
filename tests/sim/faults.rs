//! What goes wrong, and how often; and the end of all that. May not: break a rule itself.

use crate::servers::Step;
use crate::{Ev, World};

impl World {
    /// Something goes wrong, and something else will after a while.
    pub(crate) fn fault(&mut self) {
        if self.calm {
            return;
        }
        let every = self.setup.fault_every_ms;
        let after = self.chance.within(every / 2, every + every / 2);
        self.at(after, Ev::Fault);
        let host = self.chance.index(self.hosts.len());
        let server = self.chance.index(self.servers.len());
        match self.chance.within(0, 99) {
            0..14 => {
                let millis = self.chance.within(500, 25_000);
                self.reboot(host, millis);
                if self.chance.permille(200) {
                    self.lose_disk(host);
                }
            }
            // It does not come back while the world is unkind.
            14..18 => self.reboot(host, self.setup.unkind_ms),
            18..28 => {
                let millis = self.chance.within(500, 60_000);
                self.hang(host, millis);
            }
            28..38 => {
                let millis = self.chance.within(50, 3_000);
                self.restart_agent(host, millis);
            }
            38..46 => self.kill_executor(host),
            46..60 => self.cut_off(host),
            60..64 => self.cut_off_many(),
            64..68 => self.lose_rack(host),
            68..78 => {
                let step = [Step::Decided, Step::Committed, Step::Published];
                let step = step[self.chance.index(step.len())];
                self.crash_at(server, step);
            }
            78..86 => self.crash(server),
            86..94 => {
                let millis = self.chance.within(1_000, 40_000);
                self.pause(server, millis);
            }
            _ => {
                let millis = self.chance.within(500, 60_000);
                self.db.away_until = self.now + millis;
                self.trace
                    .say(self.now, || format!("the database is away for {millis} ms"));
            }
        }
    }

    /// The network between a host and all servers is cut, in one direction or in both.
    fn cut_off(&mut self, host: usize) {
        let until = self.now + self.chance.within(1_000, 60_000);
        let (mute, deaf) = match self.chance.within(0, 2) {
            0 => (true, false),
            1 => (false, true),
            _ => (true, true),
        };
        if mute {
            self.hosts[host].mute_until = until;
        }
        if deaf {
            self.hosts[host].deaf_until = until;
        }
        let millis = until - self.now;
        self.trace.say(self.now, || {
            format!("h{host} is cut off for {millis} ms (not heard: {mute}, hears nothing: {deaf})")
        });
    }

    /// The network of the servers fails, for most hosts.
    fn cut_off_many(&mut self) {
        let until = self.now + self.chance.within(10_000, 150_000);
        let most = self.chance.within(300, 1000);
        for index in 0..self.hosts.len() {
            if self.chance.permille(most) {
                self.hosts[index].mute_until = until;
            }
        }
        let millis = until - self.now;
        self.trace.say(self.now, || {
            format!("{} in 10 hosts are not heard for {millis} ms", most / 100)
        });
    }

    /// The power of a rack fails.
    fn lose_rack(&mut self, host: usize) {
        let rack = self.hosts[host].rack;
        let millis = self.chance.within(2_000, 90_000);
        for index in 0..self.hosts.len() {
            if self.hosts[index].rack == rack {
                self.reboot(index, millis);
            }
        }
    }

    /// All that is broken is mended. Bad hosts stay bad.
    pub(crate) fn calm_down(&mut self) {
        self.calm = true;
        self.trace
            .say(self.now, || "from now on all is well".into());
        self.db.away_until = 0;
        for host in &mut self.hosts {
            (host.mute_until, host.deaf_until) = (0, 0);
        }
    }
}
