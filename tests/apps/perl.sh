# exits: 4
# seconds: 60
# needs: /usr/bin/perl
exec /usr/bin/perl -w - <<'EOF'
use strict; use POSIX ":sys_wait_h"; use Fcntl qw(:flock); use File::Temp; use IO::Select; use Socket; use Time::HiRes qw(sleep alarm);
$| = 1;
my %w; open my $f, "<", "/usr/include/linux/stat.h" or die; while (<$f>) { $w{$_}++ for /\w+/g } close $f;
print join(" ", (sort { $w{$b} <=> $w{$a} || $a cmp $b } keys %w)[0..9]), "\n";
my @k; for my $i (1..5) { my $p = fork; exit $i if !$p; push @k, $p } my $s = 0; for (@k) { waitpid $_, 0; $s += $? >> 8 } print "$s\n";
pipe my $r, my $x; if (!fork) { close $r; print $x "from child\n"; exit } close $x; print scalar <$r>; wait;
print `echo backticks; exit 3`, $? >> 8, "\n"; system("kill -15 \$\$"); print $? & 127, "\n";
local $SIG{ALRM} = sub { die "alarm\n" }; eval { alarm 0.1; sleep 5 }; print $@;
local $SIG{USR1} = sub { print "usr1\n" }; kill USR1 => $$;
open my $l, ">", "lock"; print flock($l, LOCK_EX | LOCK_NB) ? "locked\n" : "no\n";
socketpair my $a, my $b, AF_UNIX, SOCK_STREAM, PF_UNSPEC; syswrite $a, "sock"; sysread $b, my $buf, 10; print "$buf\n";
open my $p, "-|", "seq 1 5" or die; print map { chomp; $_ * 2 . " " } <$p>; close $p; print "\n";
print join(",", sort glob("/usr/include/linux/a*.h")) =~ tr/,//, "\n"; my @st = stat "/etc/passwd"; print $st[7] > 0 ? "stat\n" : "";
print -d "/usr" ? "dir " : "", -x "/bin/sh" ? "exec " : "", -e "/none" ? "" : "none\n"; opendir my $d, "/usr/include/linux"; my @e = grep /\.h$/, readdir $d; print scalar(@e), "\n";
my $big = "x" x 10_000_000; print length($big . $big), "\n"; exit 4;
EOF
