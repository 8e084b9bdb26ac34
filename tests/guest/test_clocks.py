"""Clocks that are wrong, a journal daemon that restarts, and settings that cannot be written."""

import datetime
import unittest

import guest
import server


def date(vm):
    """The time of the guest."""
    return datetime.datetime.fromtimestamp(int(vm.run("date", "+%s").out), datetime.timezone.utc)


class Clocks(unittest.TestCase):
    """A board without a hardware clock."""

    def test_first_start_in_2025(self):
        image, _, payload, _ = server.installed()
        with guest.Guest(image, payload=payload) as vm:
            vm.boot(rtc="2025-01-01T00:00:00")
            # systemd has moved the clock to its own date of build.
            vm.run("date", "-s", "2025-01-01 00:00:00 UTC")
            chatto = server.Server(vm)
            chatto.install()
            chatto.wait_ready()
            chatto.set_up()
            chatto.post("from 2025")
            self.assertEqual(date(vm).year, 2025)
            chatto.passphrase()
            vm.run("systemctl", "start", "chatto-backup.service", seconds=300)

            # A time server answers: the clock jumps by almost two years under the running service.
            before = server.processes(vm)
            vm.run("date", "-s", "2026-11-30 12:00:00 UTC")
            self.assertTrue(chatto.is_ready())
            # Sessions have ended in the meantime.
            chatto.log_in()
            chatto.post("after the jump")
            status = vm.run("chatto", "status", "-c", "/etc/chatto/chatto.toml")
            print(status)
            self.assertEqual(server.processes(vm), before, "a process was ended")
            self.assertEqual(chatto.show("NRestarts"), "0")
            vm.shut_down()

            # The time is right now: the session is years old, the message is there.
            vm.boot()
            self.assertGreater(date(vm).year, 2025)
            chatto.wait_ready()
            chatto.log_in()
            chatto.post("from today")
            texts = chatto.texts()
            self.assertEqual([text for text in texts if text.startswith(("from", "after"))],
                             ["from 2025", "after the jump", "from today"])
            vm.run("systemctl", "start", "chatto-backup.service", seconds=300)
            archives = vm.shell("ls /var/lib/chatto/backups/*.tar.gz.age").split()
            self.assertEqual(len(archives), 2, "a backup has removed the one of another time")


class Running(unittest.TestCase):
    """What happens to a running service; the tests share one machine."""

    @classmethod
    def setUpClass(cls):
        cls.vm, cls.chatto = cls.enterClassContext(server.running())

    def test_clock_jumps(self):
        now, before = date(self.vm), server.processes(self.vm)
        for days in (2, -2, 400, 0):
            time = now + datetime.timedelta(days=days)
            self.vm.run("date", "-s", time.strftime("%Y-%m-%d %H:%M:%S UTC"))
            if days in (400, 0):
                # Sessions have ended by then, and stay so.
                self.chatto.log_in()
            self.chatto.post(f"at {days} days")
        posted = [text for text in self.chatto.texts() if text.startswith("at ")]
        self.assertEqual(posted, [f"at {days} days" for days in (2, -2, 400, 0)])
        self.assertEqual(server.processes(self.vm), before, "a process was ended")
        self.assertTrue(self.chatto.is_ready())

    def test_etc_is_read_only(self):
        self.vm.shell("mount --bind /etc /etc; mount -o remount,ro,bind /etc")
        self.assertNotEqual(self.vm.run("touch", "/etc/chatto/x", check=False).code, 0)
        self.vm.run("systemctl", "restart", "chatto.service", seconds=300)
        self.chatto.wait_ready()
        self.chatto.post("with /etc read-only")
        self.vm.run("systemctl", "start", "chatto-backup.service", seconds=300)
        self.vm.run("umount", "/etc")

    def test_the_journal_daemon_restarts(self):
        before = server.processes(self.vm)
        for number in range(3):
            self.vm.run("systemctl", "restart", "systemd-journald.service")
            self.chatto.post(f"after restart {number}")
        self.assertEqual(server.processes(self.vm), before)
        # Its log still arrives: the end of the service is in it.
        self.vm.run("systemctl", "restart", "chatto.service", seconds=300)
        self.chatto.wait_ready()
        self.vm.run("journalctl", "--sync", check=False)
        lines = self.vm.run("journalctl", "-b", f"_PID={before[0]}", "--no-pager", "-o", "cat").out.splitlines()
        print(lines[-5:])
        self.assertIn("stop", " ".join(lines[-5:]).lower())


if __name__ == "__main__":
    unittest.main(verbosity=2)
