#!/usr/bin/env python3
"""Which ends of a guest are held against its kernel, and so are no result; all others are the program's."""

import unittest

from machine import End, Fate, fate_of

ALIVE = 'ALIVE step 3 round 800\n'
STUCK = 'STUCK for 60 looks and 9000 rounds at: '
OOPS = """[   12.345678] int3: 0000 [#1] PREEMPT SMP NOPTI
[   12.345700] CPU: 2 PID: 77 Comm: hotplug-guest Tainted: G      D
[   12.400000] Kernel panic - not syncing: Fatal exception in interrupt
"""


class FateTest(unittest.TestCase):
    def expect(self, fate, text, end=End.ITSELF):
        self.assertEqual(fate_of(ALIVE + text, end)[0], fate, text)

    def test_an_end_is_an_end(self):
        self.expect(Fate.DONE, 'RESULT done 1\n[  99.123456] reboot: Restarting system\n')

    def test_the_kernel_died(self):
        self.expect(Fate.KERNEL, OOPS)
        self.expect(Fate.KERNEL, '[    1.000000] BUG: unable to handle page fault for address: 0000\n')
        self.expect(Fate.KERNEL, '[    1.000000] Kernel panic - not syncing: IO-APIC + timer doesn\'t work!\n')
        self.expect(Fate.KERNEL, OOPS + '[   13.0] Kernel panic - not syncing: Attempted to kill init!\n')
        self.expect(Fate.KERNEL, OOPS + STUCK + 'end of the load\n')

    def test_the_kernel_stands_still(self):
        self.expect(Fate.KERNEL, '', End.SILENT)
        self.expect(Fate.KERNEL, STUCK + "the kernel's CPU offline\n")
        self.expect(Fate.KERNEL, '')

    def test_the_program_is_stuck(self):
        self.expect(Fate.PROGRAM, STUCK + 'item for a CPU that left\n')
        self.expect(Fate.PROGRAM, STUCK + 'end of the load\n', End.SILENT)
        self.expect(Fate.PROGRAM, STUCK + 'end of the load\n[   60.0] sysrq: Resetting\n')

    def test_the_program_died(self):
        self.expect(Fate.PROGRAM, '[   12.3] traps: wq/1[99] general protection fault ip:5 sp:7 error:0\n'
                                  '[   12.4] Kernel panic - not syncing: Attempted to kill init! exitcode=0xb\n')
        self.expect(Fate.PROGRAM, '[   12.3] Kernel panic - not syncing: System is deadlocked on memory\n')
        self.expect(Fate.PROGRAM, 'FAILED to write 1 to x: y\n[   12.3] reboot: Restarting system\n')

    def test_the_words_of_the_kernel_in_another_mouth(self):
        self.expect(Fate.PROGRAM, 'BUG: workqueue lockup, Oops\n' + STUCK + 'end of the load\n')

    def test_too_slow_is_no_excuse(self):
        self.expect(Fate.PROGRAM, '', End.LATE)


if __name__ == '__main__':
    unittest.main()
