# seconds: 180
# Coreutils over the system's own files.
exec 2>&1
ls -l /usr/bin | awk '{print $1, $3, $4, $5, $NF}' | sha256sum
ls -lR /usr/share/doc 2>&1 | grep -v '^total' | sha256sum
ls -R /usr/lib | wc -l
find /usr/include -name '*.h' | sort | sha256sum
cp -a /usr/share/perl /usr/include/linux . 2>&1; diff -r /usr/include/linux linux && echo same
du -s --apparent-size linux | cut -f1 | grep -c .
find linux -type f | sort | xargs sha256sum | sha256sum
sort -R linux/*.h | sort | sha256sum
cat linux/*.h | sort -S 2M | uniq -c | sort -rn | sha256sum
dd if=/dev/zero of=zero bs=64k count=100 2>&1 | head -2; stat -c '%s %a %F' zero; sha256sum zero
dd if=zero of=part bs=1000 skip=3 count=7 status=none; wc -c part
truncate -s 1M sparse; stat -c %s sparse
ln -s zero link; ln zero hard; stat -c '%h %N' link hard zero; readlink -f link | xargs basename
mkdir -p a/b/c; touch -d '2001-02-03 04:05:06 UTC' a/b/c/f; TZ=UTC stat -c %y a/b/c/f; cp -p a/b/c/f g; TZ=UTC stat -c %y g
chmod 4750 g; stat -c %A g; chmod u=rwx,go= g; stat -c %A g; umask 077; touch h; stat -c %a h
mv a z; ls z/b/c; rm -rf z; test -e z || echo removed
head -c 1000000 /dev/urandom > r; split -b 100000 r piece.; cat piece.* | cmp - r && echo split and joined
tr -dc a-z < r | wc -c | grep -c .; base64 r | base64 -d | cmp - r && echo base64
seq 1 10000 | shuf --random-source=zero | sort -n | md5sum
paste <(seq 3) <(seq 4 6); join <(seq 5) <(seq 3 8); cut -d: -f1 /etc/passwd | sort | head -3
tac <(seq 3); nl <(seq 2); fold -w 3 <(echo abcdefg); expand <(printf 'a\tb\n')
date -u -d @86400 +%F; expr 6 \* 7; factor 360; basename /a/b.c .c; dirname /a/b
df -P / | awk 'NR == 1 {print $1} NR == 2 {print $6}'; df -P /dev/null >/dev/null && echo df
test "$(nproc)" -ge 1 && echo nproc; id -u; whoami; groups | tr ' ' '\n' | head -1
mkfifo p; stat -c %F p /dev/null /tmp /proc/self/exe | tail -3; tee t1 t2 < g >/dev/null; cmp t1 t2 && echo tee
timeout 5 yes | head -100000 | sha256sum; sync; sleep 0.05; true; false; echo $?
