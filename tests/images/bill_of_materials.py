"""`python -m tests.images.bill_of_materials DIR`: what each image is made of, as CycloneDX 1.6 in JSON.

From the locks: Python packages with their versions, and the hashes of all files of that version, of which an image
installs one. What the image that it is built from brings (Debian, Python) is not in it. One lock always gives the same
bytes.
"""

import json
import sys
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from tests.images.locks import IMAGES, Image, Locked, project, read


def written(image: Image) -> str:
    own = Component(
        name=f"steerwise-{image.name}",
        version=project()["project"]["version"],
        type=ComponentType.CONTAINER,
        bom_ref="image",
    )
    bom = Bom(
        components=[_component(one) for one in read(image.lock)],
        serial_number=uuid5(NAMESPACE_URL, image.lock.read_text()),
    )
    bom.metadata.component = own
    bom.register_dependency(own, bom.components)
    found = json.loads(JsonV1Dot6(bom).output_as_string())
    del found["metadata"]["timestamp"]
    return json.dumps(found, indent=2, sort_keys=True) + "\n"


def _component(one: Locked) -> Component:
    purl = PackageURL("pypi", None, one.name, one.version)
    only = [HashType(alg=HashAlgorithm.SHA_256, content=one.hashes[0].partition(":")[2])]
    return Component(
        name=one.name,
        version=one.version,
        purl=purl,
        bom_ref=str(purl),
        hashes=only if len(one.hashes) == 1 else [],  # of several files a component can name none
        properties=[Property(name="steerwise:file", value=found) for found in one.hashes],
    )


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for image in IMAGES:
        target = folder / f"{image.name}.cdx.json"
        target.write_text(written(image))
        print(target)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("say where to: python -m tests.images.bill_of_materials DIR")
    main(Path(sys.argv[1]))
