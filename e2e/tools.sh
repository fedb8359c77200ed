#!/bin/sh
# Puts the node and the npm of the install image into a directory, for tests on
# a host that has none or others: tools.sh IMAGE.tar DIR
set -eu
image=$1
dir=$2
stamp=$dir/.from
if [ -f "$stamp" ] && [ "$stamp" -nt "$image" ]; then
	exit 0
fi
rm -rf "$dir"
mkdir -p "$dir/unpacked"
for layer in $(tar -tf "$image" | grep -E 'layer\.tar$|\.tar$|\.tar\.gz$'); do
	tar -xOf "$image" "$layer" | tar -xf - -C "$dir/unpacked" --no-same-owner \
		usr/bin/node usr/lib/node_modules 2>/dev/null || true
done
[ -x "$dir/unpacked/usr/bin/node" ] || { echo "tools: no node in $image" >&2; exit 1; }
ln -s unpacked/usr/bin/node "$dir/node"
for cli in npm npx; do
	printf '#!/bin/sh\nexec "%s/node" "%s/unpacked/usr/lib/node_modules/npm/bin/%s-cli.js" "$@"\n' "$dir" "$dir" "$cli" >"$dir/$cli"
	chmod +x "$dir/$cli"
done
touch "$stamp"
