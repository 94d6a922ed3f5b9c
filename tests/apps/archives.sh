# seconds: 240
# tar, gzip, xz, find, grep -r over a real tree.
exec 2>&1
tar -C /usr/include -cf inc.tar linux asm-generic; tar -tf inc.tar | wc -l
mkdir x; tar -C x -xf inc.tar; diff -r /usr/include/linux x/linux && echo tar same
tar -C x -czf i.tgz linux; mkdir y; tar -C y -xzf i.tgz; diff -r x/linux y/linux && echo tgz same
head -c 3000000 inc.tar > part; xz -1 -k part; xz -l part.xz | tail -1 | awk '{print $1, $2}'; xz -dc part.xz | cmp - part && echo xz same
xz -T2 -1 -c part | xz -dc | sha256sum; gzip -c part | gunzip | sha256sum; bzip2 -c part 2>/dev/null | bzip2 -d 2>/dev/null | sha256sum
find x -type f -newer inc.tar | wc -l; find x -name '*.h' -size +20k | sort | head; find x -type d -empty | wc -l
find x -name '*.h' -exec grep -l EINVAL {} + | sort; find x -name 'a*.h' -delete; find x -type f | wc -l
grep -r --include='*.h' -c define y | sort | sha256sum; grep -rn 'struct stat' y | sort | head -20
grep -rE '^#define [A-Z_]+_MAX' y | wc -l; grep -r nothing-like-this y; echo $?
find /usr/lib -type f -name '*.so*' | sort | head -50 | xargs sha256sum | sha256sum
find /usr/share -type l | sort | sha256sum; find /etc -maxdepth 1 | sort | sha256sum
tar -cf - y | tar -tvf - | wc -l; tar --sparse -cf s.tar part; tar -df s.tar && echo no difference
find y -print0 | xargs -0 stat -c '%F' | sort | uniq -c
