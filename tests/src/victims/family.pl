# One family a mode: a parent that waits for its child, and what the child waits for.
use strict;
use warnings;
use Fcntl qw(:flock);

my ($mode, $dir) = @ARGV;
pipe(my $out, my $in) or die $!;

sub lock_file { open(my $file, '>', "$dir/$mode") or die $!; flock($file, LOCK_EX); return $file; }

if ($mode eq 'unread') { # the parent reads what its child has said once it has ended
    my $child = fork;
    if (!$child) { close $out; syswrite($in, 'x' x 1_000_000); exit; }
    close $in;
    waitpid($child, 0);
} elsif ($mode eq 'locked') { # the child wants what its parent holds
    my $held = lock_file();
    my $child = fork;
    if (!$child) { close $held; lock_file(); exit; }
    waitpid($child, 0);
} elsif ($mode eq 'unwritten') { # both keep the end open that the child waits for
    my $child = fork;
    if (!$child) { sysread($out, my $line, 1); exit; }
    wait;
} elsif ($mode eq 'chain') { # a grandchild waits for what the eldest holds
    my $held = lock_file();
    my $child = fork;
    if (!$child) {
        close $held;
        my $grandchild = fork;
        if (!$grandchild) { lock_file(); exit; }
        wait;
        exit;
    }
    wait;
} elsif ($mode eq 'watched') { # the parent gives up in time
    $SIG{ALRM} = sub { exit };
    alarm 100_000;
    my $held = lock_file();
    my $child = fork;
    if (!$child) { close $held; lock_file(); exit; }
    waitpid($child, 0);
} elsif ($mode eq 'busy') { # the child sleeps with what another child wants
    my $first = fork;
    if (!$first) { my $held = lock_file(); sleep 100_000; exit; }
    sleep 1;
    my $second = fork;
    if (!$second) { lock_file(); exit; }
    waitpid($second, 0);
} else { die $mode; }
