"""Label sets that ship with the package, one YAML file each (:meth:`cvg.composition.labels.LabelSet.load`)."""
