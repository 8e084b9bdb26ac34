"""Memory: what the idle service uses, and what happens at its limit."""

import http.client
import re
import threading
import unittest

import guest
import server

# Both processes of the idle service (docs/performance.md measures the same sum on a machine without limits).
IDLE_MAX_MB = 45


class Memory(unittest.TestCase):
    """The limits of chatto.service in a machine with 512 MB."""

    def test_idle(self):
        with server.running() as (vm, _):
            used = server.memory(vm)
            print(used)
            # The unpacked nats-server is in memory as a whole, whether its pages are mapped or not.
            both = used["chatto"] + used["nats-server"] - used["nats-server shmem"] + used["cgroup shmem"]
            self.assertLess(both, IDLE_MAX_MB)

    def test_nats_server_is_what_the_kernel_takes(self):
        with server.running() as (vm, chatto):
            limit = int(vm.run("cat", f"{server.CGROUP}/memory.max").out)
            total = int(re.search(r"MemTotal:\s+(\d+)", vm.run("cat", "/proc/meminfo").out).group(1)) << 10
            self.assertAlmostEqual(limit / total, 0.75, delta=0.01)
            parent, child = server.processes(vm)
            # What cannot be dropped; the rest are pages of files.
            used = int(vm.shell(f"awk '/^(anon|shmem|kernel) / {{ sum += $2 }} END {{ print sum }}' {server.CGROUP}/memory.stat"))
            with server.Burst(chatto, "pressure") as burst:
                burst.wait(10)
                # A little more than is used at rest; hashing a password needs more than that.
                vm.run("systemctl", "set-property", "--runtime", "chatto.service", "MemoryHigh=infinity",
                       f"MemoryMax={used + (12 << 20)}")
                pressure = [threading.Thread(target=self.press, args=(chatto,), daemon=True) for _ in range(2)]
                for thread in pressure:
                    thread.start()
                guest.wait_until(lambda: self.killed(vm), 240, "the kernel ends a process")
                vm.run("systemctl", "set-property", "--runtime", "chatto.service", "MemoryMax=75%")
                for thread in pressure:
                    thread.join()
            chatto.wait_ready()
            print(vm.shell(f"cat {server.CGROUP}/memory.events"),
                  vm.shell("journalctl -k -b --no-pager -o cat | grep -i -E 'killed process|oom-kill:' || true"))
            after = server.processes(vm)
            self.assertEqual(after[0], parent, "chatto itself was ended")
            self.assertNotEqual(after[1], child)
            self.assertEqual(set(burst.acknowledged) - set(chatto.texts()), set(), "acknowledged messages are lost")
            chatto.post("after the kill")

    def killed(self, vm):
        events = dict(line.split() for line in vm.run("cat", f"{server.CGROUP}/memory.events").out.splitlines())
        return int(events["oom_kill"])

    def press(self, chatto):
        """Log-ins, each of which hashes a password."""
        for _ in range(6):
            try:
                chatto.request("POST", "/auth/login", '{"identifier":"ada","password":"a wrong password"}', seconds=60)
            except (OSError, http.client.HTTPException):
                pass


if __name__ == "__main__":
    unittest.main(verbosity=2)
