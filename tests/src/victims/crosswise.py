# Takes OWN's lock and, once the other side has its own, OTHER's: two of these wait for each other. Whoever gets both lets
# go of both and is healthy ever after.
import fcntl, os, sys, time

own, other = sys.argv[1:3]
mine = open(own, "a")
fcntl.flock(mine, fcntl.LOCK_EX)
open(own + ".held", "w").close()
while not os.path.exists(other + ".held"):
    time.sleep(0.05)
theirs = open(other, "a")
fcntl.flock(theirs, fcntl.LOCK_EX)
theirs.close()
mine.close()
open(own + ".both", "w").close()
while True:
    time.sleep(1)
