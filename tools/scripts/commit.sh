#!/bin/sh
# commit.sh ROOT: names the commit of the source in ROOT as git does, or as its file .commit says (in
# sources that tools/package has copied). Prints nothing and fails where neither is there. A
# repository around ROOT does not count.
cd "$1" || exit 1
if [ -e .git ]; then
  git --git-dir=.git --work-tree=. describe --always --dirty
else
  cat .commit 2> /dev/null
fi
