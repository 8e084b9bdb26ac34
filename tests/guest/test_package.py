"""The package in a guest, as an administrator uses it."""

import unittest

import guest
import server


class Package(unittest.TestCase):
    """Installation, the first message, a backup, a stick, an orderly shutdown, the next boot."""

    def test_from_the_installation_to_the_next_boot(self):
        image = guest.make_image()
        package = server.build_package()
        with guest.Guest(image, payload=server.payload(package)) as vm:
            vm.boot()
            chatto = server.Server(vm)
            chatto.install()
            chatto.wait_ready()
            self.assertEqual(chatto.show("StatusText")[:7], "serving")
            chatto.set_up()
            chatto.post("from the package")
            chatto.passphrase()
            vm.run("systemctl", "start", "chatto-backup.service", seconds=300)
            self.assertIn("verified", vm.run("chatto", "backup", "list", "/var/lib/chatto/backups").out)
            print("memory:", server.memory(vm))
            vm.shut_down()

            vm.boot()
            chatto.wait_ready()
            self.assertIn("from the package", chatto.texts())
            self.assertEqual(chatto.show("NRestarts"), "0")
            self.assertEqual(vm.run("systemctl", "--failed", "--plain", "--no-legend").out, "")
            vm.shut_down()


if __name__ == "__main__":
    unittest.main(verbosity=2)
