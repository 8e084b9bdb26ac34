"""Power cuts: what was acknowledged is stored, and the service comes back by itself."""

import unittest

import guest
import server

UNFINISHED = r"find /var/lib/chatto/backups -maxdepth 1 -name '.*.partial' -type f"


class PowerCut(unittest.TestCase):
    """Each test cuts the power at another moment."""

    def after_the_cut(self, vm, chatto, acknowledged):
        """Boots, and compares what is stored with what was acknowledged."""
        vm.boot()
        chatto.wait_ready()
        stored = chatto.texts()
        lost = set(acknowledged) - set(stored)
        self.assertEqual(lost, set(), f"{len(lost)} of {len(acknowledged)} acknowledged messages are lost")
        self.assertEqual(len(stored), len(set(stored)), "a message is stored twice")
        self.assertIn("the first message", stored)
        self.assertNotIn("EXT4-fs error", vm.console())

    def test_during_a_burst_of_posts(self):
        with server.running() as (vm, chatto):
            acknowledged = []
            for round_, chance in enumerate([0.0, 0.5]):
                with server.Burst(chatto, f"burst{round_}") as burst:
                    burst.wait(60)
                    disk = vm.cut_power(chance)
                acknowledged += burst.acknowledged
                print(f"{len(burst.acknowledged)} acknowledged; {disk}")
                self.after_the_cut(vm, chatto, acknowledged)
            chatto.post("after both cuts")

    def test_during_a_backup(self):
        with server.running() as (vm, chatto):
            with server.Burst(chatto, "backup") as burst:
                burst.wait(20)
                vm.run("systemctl", "start", "--no-block", "chatto-backup.service")
                guest.wait_until(lambda: vm.shell(UNFINISHED).strip(), 120, "an unfinished archive", 0.3)
                print(vm.cut_power(0.5))
            self.after_the_cut(vm, chatto, burst.acknowledged)
            vm.run("systemctl", "start", "chatto-backup.service", seconds=300)
            self.assertEqual(vm.shell(UNFINISHED), "", "the next backup leaves what the cut one wrote")
            listed = vm.run("chatto", "backup", "list", "/var/lib/chatto/backups").out
            self.assertIn("verified", listed)
            self.assertNotIn("writing", listed)

    def test_during_an_upgrade(self):
        with server.running() as (vm, chatto):
            for chance in (0.0, 0.5):
                chatto.post(f"before the upgrade {chance}")
                vm.shell("mountpoint -q /mnt/payload || mount -o ro /dev/vdb /mnt/payload")
                vm.spawn("dpkg", "-i", "--force-confold", "/mnt/payload/newer.deb")
                # dpkg unpacks next to the installed files and renames them.
                guest.wait_until(lambda: vm.run("test", "-e", "/usr/bin/chatto.dpkg-new", check=False).code == 0
                                 or self.half_installed(vm), 120, "dpkg unpacks", 0)
                print(vm.cut_power(chance))
                self.after_the_cut(vm, chatto, [f"before the upgrade {chance}"])
                # dpkg says "reinstall it" of a package whose files it was replacing; that follows.
                print(vm.run("dpkg", "--configure", "-a", env=["DEBIAN_FRONTEND=noninteractive"], check=False, seconds=300))
                chatto.install("newer.deb")
                chatto.wait_ready()
                self.assertIn("+1", vm.shell("dpkg-query -W -f '${Version}' chatto"))
                chatto.install()
                chatto.wait_ready()

    def test_upgrade_during_a_backup(self):
        """No power cut: the service restarts under a running backup."""
        with server.running() as (vm, chatto), server.Burst(chatto, "upgrade") as burst:
            burst.wait(20)
            vm.run("systemctl", "start", "--no-block", "chatto-backup.service")
            guest.wait_until(lambda: vm.shell(UNFINISHED).strip(), 120, "an unfinished archive", 0.3)
            chatto.install("newer.deb")
            chatto.wait_ready()
            count = len(burst.acknowledged)
            burst.wait(count + 10)
            guest.wait_until(lambda: chatto.show("ActiveState", "chatto-backup.service") in ("inactive", "failed"), 300,
                             "the backup has ended", 1)
            burst.stop()
            print(chatto.show("Result", "chatto-backup.service"), chatto.journal("chatto-backup")[-1500:])
            self.assertEqual(set(burst.acknowledged) - set(chatto.texts()), set(), "acknowledged messages are lost")
            self.assertEqual(vm.shell(UNFINISHED), "", "an unfinished archive is left")
            # A backup that failed says so, and the next one succeeds.
            vm.run("systemctl", "reset-failed", "chatto-backup.service", check=False)
            vm.run("systemctl", "start", "chatto-backup.service", seconds=300)
            listed = vm.run("chatto", "backup", "list", "/var/lib/chatto/backups").out
            print(listed)
            self.assertIn("verified", listed)

    def half_installed(self, vm):
        return "installed" != vm.shell("dpkg-query -W -f '${db:Status-Status}' chatto")


if __name__ == "__main__":
    unittest.main(verbosity=2)
