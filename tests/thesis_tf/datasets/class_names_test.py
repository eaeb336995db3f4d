import re

import keras
import pytest

from thesis_tf.datasets import class_names

# The 20 superclasses of CIFAR-100 and the five classes of each, from the data set's home page.
SUPERCLASSES = {
    "aquatic mammals": "beaver dolphin otter seal whale",
    "fish": "aquarium_fish flatfish ray shark trout",
    "flowers": "orchid poppy rose sunflower tulip",
    "food containers": "bottle bowl can cup plate",
    "fruit and vegetables": "apple mushroom orange pear sweet_pepper",
    "household electrical devices": "clock keyboard lamp telephone television",
    "household furniture": "bed chair couch table wardrobe",
    "insects": "bee beetle butterfly caterpillar cockroach",
    "large carnivores": "bear leopard lion tiger wolf",
    "large man-made outdoor things": "bridge castle house road skyscraper",
    "large natural outdoor scenes": "cloud forest mountain plain sea",
    "large omnivores and herbivores": "camel cattle chimpanzee elephant kangaroo",
    "medium-sized mammals": "fox porcupine possum raccoon skunk",
    "non-insect invertebrates": "crab lobster snail spider worm",
    "people": "baby boy girl man woman",
    "reptiles": "crocodile dinosaur lizard snake turtle",
    "small mammals": "hamster mouse rabbit shrew squirrel",
    "trees": "maple_tree oak_tree palm_tree pine_tree willow_tree",
    "vehicles 1": "bicycle bus motorcycle pickup_truck train",
    "vehicles 2": "lawn_mower rocket streetcar tank tractor",
}


@pytest.mark.parametrize("name", ["fashion_mnist", "cifar10"])
def test_names_are_those_of_the_table_in_the_docstring_of_keras(name):
    documented = getattr(keras.datasets, name).load_data.__doc__
    table = re.findall(r"\| +(\d) +\| +(\S.*?) *\|", documented)
    assert [int(number) for number, _ in table] == list(range(10))
    assert tuple(label for _, label in table) == getattr(class_names, name.upper())


def test_fine_labels_are_numbered_in_alphabetical_order():
    fine = [name for names in SUPERCLASSES.values() for name in names.split()]
    assert len(set(fine)) == 100
    assert tuple(sorted(fine)) == class_names.CIFAR100


def test_digits_are_their_own_names():
    assert tuple(map(str, range(10))) == class_names.DIGITS
