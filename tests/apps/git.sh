# seconds: 180
# needs: /usr/bin/git
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z' GIT_CONFIG_NOSYSTEM=1
git init -q -b main r 2>&1; cd r
for d in $(seq 10); do mkdir d$d; for f in $(seq 100); do echo "file $d $f" > d$d/f$f; done; done
git add . && git commit -qm first && git log --format='%H %s'; git ls-files | wc -l
for i in 1 2 3 4 5; do echo $i >> d$i/f$i; git commit -qam "change $i"; done; git log --oneline | cat; git status --short
git checkout -qb side HEAD~3; echo side > d9/new; git add . ; git commit -qm side; git checkout -q main; git merge -q -m merge side; git log --graph --format=%s | cat
git diff HEAD~2 --stat | tail -1; git mv d1/f1 d1/moved; git rm -q d2/f2; git commit -qm moves; git show --stat --format=%s HEAD | cat
git gc -q && git count-objects -v | grep -E 'count|in-pack|packs'; git fsck --full 2>&1; git rev-parse HEAD
git clone -q . ../c 2>&1; cd ../c; git log -1 --format=%H; git grep -c 'file 3' | wc -l; git archive HEAD | sha256sum; git stash list; git bisect start -q HEAD HEAD~3 >/dev/null; git bisect reset -q 2>&1 | head -1
echo x > d1/f5; git stash -q; git stash pop -q; git diff --stat | cat; git tag v1; git describe --tags; git blame d1/f7 | cut -c1-8
